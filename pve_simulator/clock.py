"""Simulated time: durations are shortened, moments go on at the real pace (unix seconds).

The moment may be another than the real one, so that a run can begin when it is told to.
"""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Divides every simulated duration by `speed`; `offset_s` is how far `now` is off real time."""

    def __init__(self, speed: float, *, offset_s: float = 0.0) -> None:
        self.speed = speed
        self.offset_s = offset_s

    def now(self) -> float:
        return time.time() + self.offset_s

    def real(self, simulated_s: float) -> float:
        """The real seconds that a simulated duration takes."""
        return simulated_s / self.speed

    def elapsed(self, since: float) -> float:
        """Simulated seconds since a moment."""
        return (self.now() - since) * self.speed

    async def sleep(self, simulated_s: float) -> None:
        await asyncio.sleep(self.real(simulated_s))
