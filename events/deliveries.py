"""Telling webhooks: who sends what when, and what becomes of it.

A delivery is taken with a lease, by a guarded UPDATE, and written to only with that lease. A worker
that is killed in between leaves a lease that runs out, and the next one sends it again: at least
once, so receivers tell repetitions by the delivery's id. They are sent roughly in their order; one
that is tried again comes after later ones.
"""

from __future__ import annotations

import datetime
import random
import threading
import time
import uuid

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import Now

from accounts.actors import Actor
from accounts.crypto import Unsealable
from events.bodies import event_json
from events.models import FAILED, PENDING, SUCCEEDED, Delivery, Webhook, record_event
from events.sending import Outcome, post, signature

log = structlog.get_logger(__name__)

USER_AGENT = "Izvor-Webhook/1"
# At a time, to one webhook: while it answers, and while it does not.
AT_ONCE, AT_ONCE_FAILING = 4, 1
# A sender ends after this long, so that a worker can stop; the next tick starts it again.
WORK_S = 20.0

_senders = threading.BoundedSemaphore(settings.WEBHOOKS["senders"])


def due() -> QuerySet[Delivery]:
    return Delivery.objects.filter(
        Q(lease_until=None) | Q(lease_until__lt=Now()),
        state=PENDING,
        next_at__lte=Now(),
        webhook__is_enabled=True,
    )


def senders_wanted() -> int:
    """How many senders would have something to do, up to what one worker runs."""
    return due()[: settings.WEBHOOKS["senders"]].count()


def work() -> None:
    """One sender: what is due, one after another. A worker has only so many of them."""
    if not _senders.acquire(blocking=False):
        return
    try:
        ends = time.monotonic() + WORK_S
        while time.monotonic() < ends:
            delivery = take()
            if delivery is None:
                return
            settle(delivery, attempt(delivery))
    finally:
        _senders.release()


@transaction.atomic
def take() -> Delivery | None:
    """The lease of the next delivery that is due, unless its webhook has enough under way."""
    waiting = due().exclude(webhook__in=busy_webhooks()).order_by("next_at")
    found = waiting.select_for_update(skip_locked=True, of=("self",)).first()
    if found is None:
        return None
    found.lease_token = uuid.uuid4()
    found.attempts += 1
    Delivery.objects.filter(pk=found.pk).update(
        lease_token=found.lease_token,
        lease_until=Now() + datetime.timedelta(seconds=settings.WEBHOOKS["lease_s"]),
        attempts=found.attempts,
    )
    return Delivery.objects.select_related("webhook", "event__project").get(pk=found.pk)


def busy_webhooks() -> list[int]:
    under_way = (
        Delivery.objects.filter(lease_until__gte=Now())
        .values("webhook", "webhook__failing_since")
        .annotate(count=Count("pk"))
    )
    return [
        row["webhook"]
        for row in under_way
        if row["count"] >= (AT_ONCE_FAILING if row["webhook__failing_since"] else AT_ONCE)
    ]


def attempt(delivery: Delivery) -> Outcome:
    """Send it once. In no transaction."""
    try:
        secret = delivery.webhook.secret
    except Unsealable as error:
        return Outcome(status=None, body="", error=str(error), duration_ms=0)
    body = event_json(delivery.event)
    return post(
        delivery.webhook.url,
        body,
        headers={
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Izvor-Event": delivery.event.kind,
            "Izvor-Delivery": str(delivery.uuid),
            "Izvor-Signature": signature(secret, body, int(time.time())),
        },
    )


@transaction.atomic
def settle(delivery: Delivery, outcome: Outcome) -> None:
    """Write down what came of an attempt, if the lease is still ours."""
    delay = datetime.timedelta(seconds=backoff_s(delivery.attempts))
    values: dict[str, object] = {
        "lease_token": None,
        "lease_until": None,
        "response_status": outcome.status,
        "response_body": outcome.body,
        "error": outcome.error,
        "duration_ms": outcome.duration_ms,
    }
    held = Delivery.objects.filter(pk=delivery.pk, lease_token=delivery.lease_token)
    if outcome.is_success:
        ended = {"state": SUCCEEDED, "next_at": None, "ended_at": Now()}
        rows = held.update(**values, **ended)
    else:
        again = held.filter(give_up_at__gt=Now() + delay)
        rows = again.update(**values, next_at=Now() + delay)
        if not rows:
            rows = held.update(**values, state=FAILED, next_at=None, ended_at=Now())
    if not rows:
        log.warning("delivery_lease_lost", delivery=str(delivery.uuid))
        return
    note_health(delivery.webhook, outcome)


def backoff_s(attempts: int) -> float:
    """Twice as long after each attempt, a quarter of jitter: 5 s, 10 s, 20 s … 4 h."""
    longest = settings.WEBHOOKS["backoff_max_s"]
    base = min(longest, settings.WEBHOOKS["backoff_s"] * 2 ** min(attempts - 1, 30))
    return float(base * random.uniform(0.75, 1.25))  # noqa: S311


def note_health(webhook: Webhook, outcome: Outcome) -> None:
    """Since when it fails; one that has failed for days is switched off, and that is told."""
    row = Webhook.objects.filter(pk=webhook.pk)
    if outcome.is_success:
        row.exclude(failing_since=None).update(failing_since=None)
        return
    row.filter(failing_since=None).update(failing_since=Now())
    patience = datetime.timedelta(seconds=settings.WEBHOOKS["disable_after_s"])
    gone = row.filter(is_enabled=True, failing_since__lt=Now() - patience)
    if gone.update(is_enabled=False):
        log.warning("webhook_disabled", webhook=str(webhook.uuid), error=outcome.error)
        record_event(
            "webhook.disabled",
            by="izvor",
            project_id=webhook.project_id,
            subject=webhook.uuid,
            label=str(webhook),
            error=outcome.error,
        )


@transaction.atomic
def redeliver(delivery: Delivery, *, by: Actor) -> bool:
    """Send it once more, under the same id. False: it is on its way already."""
    patience = datetime.timedelta(seconds=settings.WEBHOOKS["give_up_s"])
    ended = Delivery.objects.filter(pk=delivery.pk).exclude(state=PENDING)
    rows = ended.update(
        state=PENDING, attempts=0, next_at=Now(), give_up_at=Now() + patience, ended_at=None
    )
    if not rows:
        # One that waits for its next attempt need not wait.
        rows = Delivery.objects.filter(
            Q(lease_until=None) | Q(lease_until__lt=Now()), pk=delivery.pk, state=PENDING
        ).update(next_at=Now())
    if rows:
        record_event(
            "webhook.redelivered",
            by=by,
            project_id=delivery.webhook.project_id,
            subject=delivery.webhook.uuid,
            label=str(delivery.webhook),
            delivery=str(delivery.uuid),
        )
    return bool(rows)
