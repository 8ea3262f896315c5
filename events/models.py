"""What happened: audit, outbox and source of the event stream in one table; and who is told of it.

An event is written in the transaction that made it true, and has no number then: transactions end
in another order than they begin, so whoever read "everything above the last id" would miss one that
was committed late. `events.outbox` numbers events (`seq`) after their commit, one numbering at a
time, so numbers appear in their order and nobody who reads on from the last one misses any.
"""

from __future__ import annotations

import secrets
import uuid
from typing import Any, ClassVar
from urllib.parse import urlsplit

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts import crypto
from accounts.actors import Actor
from accounts.models import Project
from accounts.prepared import Insert
from events.words import EVENTS, say_on_commit

PENDING, SUCCEEDED, FAILED = "pending", "succeeded", "failed"
DELIVERY_STATES = (PENDING, SUCCEEDED, FAILED)


class EventQuerySet(models.QuerySet["Event"]):
    def visible_to(self, actor: Actor) -> EventQuerySet:
        """Operators see all; others what happened in their project."""
        return self if actor.is_operator else self.filter(project=actor.project)


class Event(models.Model):
    """One thing that happened, written in the transaction that made it true."""

    seq = models.BigIntegerField(
        "number", null=True, unique=True, editable=False, help_text="given after the commit"
    )
    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=60)
    actor = models.CharField(max_length=100)
    project = models.ForeignKey(Project, null=True, on_delete=models.SET_NULL)
    subject = models.UUIDField(null=True)
    subject_label = models.CharField(max_length=200, blank=True)
    task = models.UUIDField(null=True)
    data = models.JSONField(default=dict)

    objects: ClassVar[Any] = EventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["subject", "-id"], name="events_of_a_subject"),
            models.Index(fields=["kind", "-id"], name="events_of_a_kind"),
            models.Index(fields=["project", "seq"], name="events_of_a_project"),
            models.Index(fields=["at"], name="events_by_time"),
            models.Index(fields=["id"], condition=Q(seq=None), name="events_to_number"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject_label}"


_INSERT = Insert(Event)


def record_event(
    kind: str,
    *,
    by: Actor | str,
    project_id: int | None = None,
    subject: uuid.UUID | None = None,
    label: str = "",
    task: uuid.UUID | None = None,
    **data: Any,
) -> Event:
    """Write an event, e.g. `vm.protection_changed`; its kind stands in `events.kinds`.

    `data` holds plain JSON values and never a secret.
    """
    event = new_event(
        kind, by=by, project_id=project_id, subject=subject, label=label, task=task, **data
    )
    _INSERT([event])
    say_on_commit(EVENTS)
    return event


def record_events(events: list[Event]) -> None:
    """Write what `new_event` made, all at once, and say so once. They get no keys."""
    if events:
        _INSERT.ask(events)
        say_on_commit(EVENTS)


def new_event(
    kind: str,
    *,
    by: Actor | str,
    project_id: int | None = None,
    subject: uuid.UUID | None = None,
    label: str = "",
    task: uuid.UUID | None = None,
    **data: Any,
) -> Event:
    """As `record_event`, unsaved."""
    return Event(
        kind=kind,
        actor=by if isinstance(by, str) else by.name,
        project_id=project_id,
        subject=subject,
        subject_label=label[:200],
        task=task,
        data=data,
    )


class WebhookQuerySet(models.QuerySet["Webhook"]):
    def visible_to(self, actor: Actor) -> WebhookQuerySet:
        """Operators see all; others their project's."""
        return self if actor.is_operator else self.filter(project=actor.project)


class Webhook(models.Model):
    """An address that is told of a project's events, or of all."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    project = models.ForeignKey(
        Project,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="webhooks",
        help_text="Empty: events of all projects, and of the infrastructure.",
    )
    url = models.CharField("URL", max_length=2000)
    description = models.CharField(max_length=200, blank=True)
    types = ArrayField(
        models.CharField(max_length=60),
        default=list,
        blank=True,
        help_text="e.g. task.succeeded, vm.*; empty: all",
    )
    sealed_secret = models.TextField(editable=False)
    is_enabled = models.BooleanField("enabled", default=True)
    failing_since = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = WebhookQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.CheckConstraint(condition=~Q(sealed_secret=""), name="a_webhook_has_a_secret")
        ]

    def __str__(self) -> str:
        """Its host: paths and queries of such addresses are often secrets themselves."""
        return urlsplit(self.url).hostname or "?"

    def new_secret(self) -> str:
        """Give it a secret, stored sealed; what is returned is shown once."""
        secret = "whsec_" + secrets.token_urlsafe(32)
        self.sealed_secret = crypto.seal(secret)
        return secret

    @property
    def secret(self) -> str:
        """Raises crypto.Unsealable."""
        return crypto.unseal(self.sealed_secret)


class Delivery(models.Model):
    """One event on its way to one webhook.

    state, each change a guarded UPDATE by the worker that holds the lease (`events.deliveries`):

        pending -> succeeded   the receiver answered 2xx
        pending -> pending     it did not; again at `next_at`
        pending -> failed      it did not until `give_up_at`
        succeeded, failed -> pending   a person asked for it again
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    event = models.ForeignKey(Event, on_delete=models.CASCADE, related_name="deliveries")
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    state = models.CharField(
        max_length=10, default=PENDING, choices=[(state, state) for state in DELIVERY_STATES]
    )
    attempts = models.PositiveIntegerField(default=0)
    next_at = models.DateTimeField(null=True)
    give_up_at = models.DateTimeField()
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    response_status = models.PositiveSmallIntegerField(null=True)
    response_body = models.TextField(blank=True, help_text="its beginning")
    error = models.CharField(max_length=500, blank=True)
    duration_ms = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["next_at"], condition=Q(state=PENDING), name="deliveries_to_do"),
            models.Index(
                fields=["webhook"],
                condition=Q(lease_until__isnull=False),
                name="deliveries_under_way",
            ),
            models.Index(fields=["webhook", "-id"], name="deliveries_of_a_webhook"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["event", "webhook"], name="one_delivery_per_event_and_webhook"
            ),
            models.CheckConstraint(
                condition=Q(state=PENDING, next_at__isnull=False, ended_at=None)
                | Q(state__in=[SUCCEEDED, FAILED], next_at=None, ended_at__isnull=False),
                name="a_delivery_is_due_or_has_ended",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.webhook_id}"
