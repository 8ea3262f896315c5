"""Celery's doors to events: numbering and telling are driven by the clock, so a lost hint costs a
second at most."""

from __future__ import annotations

from celery import shared_task

from events import deliveries, outbox, retention, words
from events.ticks import LIVES_S, tick_task


@tick_task("events.tick")
def tick() -> None:
    """Number what nobody has numbered yet, and start senders for what is due."""
    if outbox.publish():
        words.say(words.EVENTS)
    for _ in range(deliveries.senders_wanted()):
        deliver.apply_async(expires=LIVES_S)


@shared_task(name="events.deliver")  # type: ignore[untyped-decorator]
def deliver() -> None:
    deliveries.work()


@tick_task("events.clean")
def clean() -> None:
    retention.forget_old_events()
