"""Celery's doors to events: numbering and telling are driven by the clock, so a lost hint costs a
second at most."""

from __future__ import annotations

from celery import shared_task

from events import deliveries, outbox, retention, words


@shared_task(name="events.tick")  # type: ignore[untyped-decorator]
def tick() -> None:
    """Number what nobody has numbered yet, and start senders for what is due."""
    if outbox.publish():
        words.say(words.EVENTS)
    for _ in range(deliveries.senders_wanted()):
        deliver.apply_async(expires=5)


@shared_task(name="events.deliver")  # type: ignore[untyped-decorator]
def deliver() -> None:
    deliveries.work()


@shared_task(name="events.clean")  # type: ignore[untyped-decorator]
def clean() -> None:
    retention.forget_old_events()
