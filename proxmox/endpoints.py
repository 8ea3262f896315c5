"""The addresses at which one cluster answers, and which of them to leave alone for a while."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_PORT = 8006

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`host` without the brackets of an IPv6 address."""

    host: str
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """`https://pve1:8006`, `pve1`, `10.0.0.1:8006`, `[fd00::1]`; raises ValueError otherwise.

        The error does not repeat the text: somebody may have written a password into it.
        """
        url = text.strip()
        try:
            parts = urlsplit(url if "//" in url else f"https://{url}")
            host, port = parts.hostname or "", parts.port or DEFAULT_PORT
        except ValueError:
            raise ValueError("a Proxmox endpoint is https://host:port") from None
        if parts.scheme != "https":
            raise ValueError("Proxmox speaks HTTPS only: an endpoint is https://host:port")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a Proxmox endpoint is https://host:port, without credentials")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("a Proxmox endpoint is https://host:port, without a path")
        if not _HOST.fullmatch(host):
            raise ValueError("a Proxmox endpoint is https://host:port; this names no host")
        return cls(host, port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class Breaker:
    """Keeps a dead endpoint from costing every call its connect timeout.

        closed ──a failed connection, or 3 lost answers in a row──▶ open
        open ──its time is up; one call may try──▶ half open
        half open ──it worked──▶ closed
        half open ──it failed──▶ open, for twice as long (up to `longest_s`)

    A lost answer alone does not open it: that may be one slow storage, not the endpoint.
    """

    LOST_ANSWERS = 3

    def __init__(
        self,
        *,
        first_s: float = 2.0,
        longest_s: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._first_s, self._longest_s = first_s, longest_s
        self._open_for_s = 0.0
        self._retry_at = 0.0
        self._is_probing = False
        self._lost_in_a_row = 0

    def admits(self) -> bool:
        """Whether a call may try; the first after the open time takes the only half-open slot."""
        with self._lock:
            if not self._open_for_s:
                return True
            now = self._clock()
            if now < self._retry_at:
                return False
            # Should the probe never come back, the next one may go when this time is up.
            self._retry_at = now + self._open_for_s
            self._is_probing = True
            return True

    @property
    def is_closed(self) -> bool:
        return not self._open_for_s

    @property
    def retry_in_s(self) -> float:
        """Seconds until the next try is let through."""
        return max(0.0, self._retry_at - self._clock()) if self._open_for_s else 0.0

    def worked(self) -> None:
        """It answered, whatever the answer says."""
        with self._lock:
            self._open_for_s = 0.0
            self._is_probing = False
            self._lost_in_a_row = 0

    def failed(self) -> None:
        """It could not be connected to."""
        with self._lock:
            self._open()

    def lost_answer(self) -> None:
        """It did not answer, or could not be connected to in the little time that was left."""
        with self._lock:
            self._lost_in_a_row += 1
            if self._open_for_s or self._lost_in_a_row >= self.LOST_ANSWERS:
                self._open()

    def _open(self) -> None:
        # Many threads may fail at the same moment; only the first, or a probe, counts.
        if self._open_for_s and not self._is_probing:
            return
        self._is_probing = False
        self._open_for_s = min(self._open_for_s * 2 or self._first_s, self._longest_s)
        self._retry_at = self._clock() + self._open_for_s
