"""What the launcher says on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Back to the line's start, and clear it.
CLEAR_LINE = "\r\x1b[K"


def say(text: str = "") -> None:
    """A line for the person, at once even into a pipe. A terminal that is gone is no error."""
    try:
        # Whatever stage line is under way gives its line up.
        print(f"{CLEAR_LINE if _on_terminal() else ''}{text}", flush=True)
    except OSError:
        sys.stdout = None  # print() then does nothing


def complain(text: str) -> None:
    """A line about what went wrong."""
    try:
        on_terminal = sys.stderr is not None and sys.stderr.isatty()
        print(f"{CLEAR_LINE if on_terminal else ''}{text}", file=sys.stderr, flush=True)
    except OSError:
        sys.stderr = None


@contextmanager
def stage(title: str) -> Iterator[None]:
    """A progress line: on a terminal the title at once; the seconds it took when it is done."""
    begun = time.monotonic()
    if _on_terminal():
        print(f"  … {title}", end="", flush=True)
    yield
    say(f"  ✓ {title:<48} {time.monotonic() - begun:5.1f} s")


def _on_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()
