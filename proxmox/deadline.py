"""A call's total deadline, and whether it has begun to send.

Timeouts of sockets count from one packet to the next: a server that drips a byte a second never
meets one. So every wait inside a call, for a name, a connection, the TLS handshake, each read and
each write, is cut to what remains of the call. The attempt under way is held by thread, since
urllib3 leaves no other way from a request down to its socket.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Deadline:
    """A moment, `timeout_s` after its making."""

    __slots__ = ("_ends_at",)

    def __init__(self, timeout_s: float) -> None:
        self._ends_at = time.monotonic() + timeout_s

    @property
    def remaining_s(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._ends_at - time.monotonic())

    @property
    def is_over(self) -> bool:
        return self.remaining_s == 0.0


@dataclass(slots=True)
class Attempt:
    """One try of a request at one endpoint."""

    deadline: Deadline
    # Set right before the first byte of the request is handed to TLS: while it is False, the server
    # has seen nothing of it, and another endpoint may be tried even with what changes something.
    has_sent: bool = False
    # The address that the request went to; one name may stand for several machines.
    peer: str = ""

    def time_left_s(self) -> float:
        """Seconds left; raises TimeoutError where none are."""
        left = self.deadline.remaining_s
        if left == 0.0:
            raise TimeoutError("the call's deadline has passed")
        return left


_of_thread = threading.local()


def current_attempt() -> Attempt | None:
    """The attempt that this thread is making."""
    return getattr(_of_thread, "attempt", None)


@contextmanager
def attempting(deadline: Deadline) -> Iterator[Attempt]:
    """Makes an attempt the thread's own for the length of the block."""
    attempt = Attempt(deadline)
    _of_thread.attempt = attempt
    try:
        yield attempt
    finally:
        _of_thread.attempt = None
