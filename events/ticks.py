"""The clockwork's ticks, which pile up while no worker is there to take them.

A worker drops a message that has expired by the worker's own clock, though beat has stamped it by
beat's. So it may live for minutes: else machines whose clocks differ by seconds would tick no more.
Of a pile that is taken at once one tick does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import redis
from celery import shared_task
from django.conf import settings

# How far beat's clock and a worker's may be apart, and how old a tick of a pile gets, in seconds.
LIVES_S = 600


def ticks(seconds: Mapping[str, float]) -> dict[str, dict[str, object]]:
    """Celery's schedule: each task once in so many seconds."""
    return {
        task: {
            "task": task,
            "schedule": each,
            # A little less, for ticks that come a little early.
            "kwargs": {"every_s": 0.8 * each},
            "options": {"expires": LIVES_S},
        }
        for task, each in seconds.items()
    }


def tick_task(name: str) -> Callable[[Callable[[], None]], Any]:
    """A Celery task that does nothing where another has done it less than `every_s` ago."""

    def make(work: Callable[[], None]) -> Any:
        @shared_task(name=name)  # type: ignore[untyped-decorator]
        @functools.wraps(work)
        def tick(every_s: float = 0) -> None:
            if not every_s or is_first_in(name, every_s):
                work()

        return tick

    return make


def is_first_in(name: str, seconds: float) -> bool:
    """Whether nobody has asked this of `name` for so long, by the clock of Redis."""
    key = f"{settings.REDIS_PREFIX}:tick:{name}"
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2) as client:
            return bool(client.set(key, 1, nx=True, px=int(seconds * 1000)))
    except redis.RedisError:
        return True
