"""Simulated durations. Moments stay real (unix seconds), so that clients' clocks agree."""

from __future__ import annotations

import asyncio
import time


class Clock:
    """Divides every simulated duration by `speed`."""

    def __init__(self, speed: float) -> None:
        self.speed = speed

    @staticmethod
    def now() -> float:
        return time.time()

    def real(self, simulated_s: float) -> float:
        """The real seconds that a simulated duration takes."""
        return simulated_s / self.speed

    def elapsed(self, since: float) -> float:
        """Simulated seconds since a real moment."""
        return (self.now() - since) * self.speed

    async def sleep(self, simulated_s: float) -> None:
        await asyncio.sleep(self.real(simulated_s))
