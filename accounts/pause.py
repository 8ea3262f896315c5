"""Leaving alone, for a while, what has just failed."""

from __future__ import annotations

import time


class Pause:
    """After a failure nothing is tried for so many seconds: a Redis that is away must not cost
    everybody its timeout."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._until = time.monotonic() + self._seconds
