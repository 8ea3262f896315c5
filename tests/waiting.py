"""Waiting for what happens elsewhere: never longer than needed, never for ever."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(is_true: Callable[[], object], what: str = "it", seconds: float = 30.0) -> None:
    """Returns when it is true. Raises AssertionError that says what was waited for."""
    ends = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > ends:
            raise AssertionError(f"{what} took longer than {seconds:.0f} s")
        time.sleep(0.02)
