"""Sending hints to the workers. A hint that is lost or doubled changes nothing: the rows decide."""

from __future__ import annotations

import redis
import structlog
from django.conf import settings
from django.db.models.functions import Now
from kombu.exceptions import OperationalError

from accounts.pause import Pause
from accounts.prepared import Prepared, Slot
from accounts.sql import after_commit
from events.words import say_on_commit
from operations.models import QUEUED, UNFINISHED, Operation

log = structlog.get_logger(__name__)

CHANNEL = f"{settings.REDIS_PREFIX}:ended"
# What has begun goes before what has not: a thousand new ones hold up nobody's running task. Redis
# has a list for each priority, the least first.
BEGUN, NOT_BEGUN = 0, 9
_SEPARATOR = "\x06\x16"
_pause = Pause(1.0)
# One operation, with what a hint says of it.
HINTED = Prepared(
    lambda: (
        Operation.objects.filter(pk=Slot("pk"))
        .only("kind", "subject_label", "step", "state")
        .order_by()
    )
)


def wake(operation: Operation, *, priority: int | None = None, **values: str) -> None:
    """Make the operation due now, and hint at it once the transaction is committed."""
    unfinished = Operation.objects.filter(pk=operation.pk, state__in=UNFINISHED)
    unfinished.update(due_at=Now(), **values)
    hint(operation, priority=priority)


def hint(operation: Operation, *, delay_s: float = 0, priority: int | None = None) -> None:
    """Ask for a turn after the commit; the sweeper finds the row anyway."""
    # What Flower calls it: `create_vm 105: clone`.
    number = operation.subject_label.split(" ")[0]
    shadow = f"{operation.kind} {number}: {operation.step}"
    if priority is None:
        priority = NOT_BEGUN if operation.state == QUEUED else BEGUN
    after_commit(
        send,
        "operations.turn",
        operation.pk,
        delay_s=delay_s,
        shadow=shadow,
        priority=priority,
    )


def hint_at(pk: int, *, delay_s: float = 0) -> None:
    """As `hint`, by its key."""
    if operation := HINTED.first(pk=pk):
        hint(operation, delay_s=delay_s)


def send(
    task: str, pk: int, *, delay_s: float = 0, shadow: str | None = None, priority: int = BEGUN
) -> None:
    from celery import current_app

    if _pause.is_on:
        return
    try:
        current_app.send_task(
            task,
            args=(pk,),
            countdown=delay_s or None,
            shadow=shadow,
            priority=priority,
            retry=False,
            queue="watch" if task == "operations.poll" else "turns",
        )
    except (OperationalError, redis.RedisError, OSError) as error:
        # The broker is away; beat and the sweeper carry on when it is back.
        _pause.begin()
        log.warning("hint_not_sent", task_name=task, pk=pk, error=str(error))


def untaken(name: str, *priorities: int) -> int:
    """Hints of these priorities that no worker has taken from a queue. Raises redis.RedisError."""
    suffixes = [f"{_SEPARATOR}{priority}" if priority else "" for priority in priorities]
    with redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2
    ) as client:
        return sum(int(client.llen(f"{settings.REDIS_PREFIX}:{name}{end}")) for end in suffixes)


def announce_end(operation: Operation) -> None:
    """Tell waiting requests after the commit; they look at the row each second anyway."""
    say_on_commit(CHANNEL, str(operation.uuid))
