"""Celery's doors to the engine: each takes a primary key and calls one function."""

from __future__ import annotations

import datetime

import redis
from celery import shared_task
from django.db.models import Q
from django.db.models.functions import Now

from events.ticks import tick_task
from operations import engine, idempotency, poller, queue, retrying
from operations.models import QUEUED, RUNNING, Operation

# Hints that wait in a queue before the sweeper adds no more.
MOST_HINTS = 500


@shared_task(name="operations.turn")  # type: ignore[untyped-decorator]
def turn(pk: int) -> None:
    delay = engine.take_turn(pk)
    if delay is not None and delay <= 5:
        queue.hint_at(pk, delay_s=delay)


@shared_task(name="operations.poll")  # type: ignore[untyped-decorator]
def poll(pk: int) -> None:
    delay = poller.poll_cluster(pk)
    if delay is not None:
        queue.send("operations.poll", pk, delay_s=delay)


@tick_task("operations.sweep")
def sweep() -> None:
    """Hint at each due operation and missing poller: after a crash this is the normal path."""
    overdue = Now() - datetime.timedelta(seconds=1)
    # Those of a cluster that is switched off stay due, and go on once it is on again.
    due = Operation.objects.unfinished().filter(
        Q(lease_until=None) | Q(lease_until__lt=Now()),
        due_at__lte=overdue,
        cluster__is_enabled=True,
    )
    for state, priority in ((RUNNING, queue.BEGUN), (QUEUED, queue.NOT_BEGUN)):
        for operation in due.filter(state=state).order_by("due_at")[: room_for(priority)]:
            queue.hint(operation)
    retrying.erase_secrets()
    for pk in poller.clusters_with_tasks():
        queue.send("operations.poll", pk)


def room_for(priority: int) -> int:
    """How many hints to send: where many wait already, workers are behind, and none is lost."""
    try:
        return max(0, MOST_HINTS - queue.untaken("turns", priority))
    except redis.RedisError:
        # None could be sent either.
        return 0


@tick_task("operations.clean")
def clean() -> None:
    idempotency.forget_old_keys()
