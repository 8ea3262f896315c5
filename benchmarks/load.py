"""The smallest HTTP client that keeps its connection: what is measured is the server."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")
# The server closes a connection that was idle for 5 s.
IDLE_S = 2.0


class Caller:
    """One kept connection of one token."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._used_at = 0.0
        self._connect()
        self._headers = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"

    def call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """The status and the body."""
        more = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
        if time.monotonic() - self._used_at > IDLE_S:
            self.close()
            self._connect()
        head = f"{method} /api/v1/{path} HTTP/1.1\r\n{self._headers}{more}\r\n"
        self._socket.sendall(head.encode() + body)
        got = b""
        while (end := got.find(b"\r\n\r\n")) < 0:
            got += self._piece()
        length = int(got[:end].lower().split(b"content-length:")[1].split(b"\r\n")[0])
        pieces, missing = [got[end + 4 :]], length - (len(got) - end - 4)
        while missing > 0:
            pieces.append(self._piece())
            missing -= len(pieces[-1])
        self._used_at = time.monotonic()
        return int(got[9:12]), b"".join(pieces)

    def get(self, path: str) -> bytes:
        status, body = self.call("GET", path)
        if status != 200:
            raise RuntimeError(f"GET {path}: {status} {body[:300]!r}")
        return body

    def close(self) -> None:
        self._socket.close()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._used_at = time.monotonic()

    def _piece(self) -> bytes:
        piece = self._socket.recv(1 << 20)
        if not piece:
            raise RuntimeError("the server hung up")
        return piece


def per_second(call: Callable[[], object], seconds: float) -> float:
    """How often one caller gets through, one call after the other."""
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        call()
        count += 1
    return count / took


def per_second_of_many(calls: list[Callable[[], object]], seconds: float) -> float:
    """The same of several at once."""
    return sum(at_once([partial(per_second, call, seconds) for call in calls]))


def at_once(calls: list[Callable[[], T]]) -> list[T]:
    """What each gives, called from a thread of its own. Raises RuntimeError if one of them did."""
    found: list[T] = []
    threads = [threading.Thread(target=lambda call=call: found.append(call())) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) != len(calls):
        raise RuntimeError("a caller failed, see above")
    return found


def times_ms(call: Callable[[], object], count: int) -> list[float]:
    """Each call's milliseconds, sorted."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return sorted(taken)
