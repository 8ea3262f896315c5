"""What happened: audit, outbox and source of the event stream in one table."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from accounts.actors import Actor
from accounts.models import Project


class Event(models.Model):
    """One thing that happened, written in the transaction that made it true."""

    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=60)
    actor = models.CharField(max_length=100)
    project = models.ForeignKey(Project, null=True, on_delete=models.SET_NULL)
    subject = models.UUIDField(null=True)
    subject_label = models.CharField(max_length=200, blank=True)
    task = models.UUIDField(null=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["subject", "-id"], name="events_of_a_subject"),
            models.Index(fields=["kind", "-id"], name="events_of_a_kind"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.subject_label}"


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
    """Write an event, e.g. `vm.created`. `data` holds plain JSON values and never a secret."""
    return Event.objects.create(
        kind=kind,
        actor=by if isinstance(by, str) else by.name,
        project_id=project_id,
        subject=subject,
        subject_label=label[:200],
        task=task,
        data=data,
    )
