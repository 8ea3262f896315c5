"""One POST to a webhook: signed, to a checked address, over within its time, never redirected."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from functools import cache

from django.conf import settings

from events.addresses import Address, Target, Unusable, parse_url, resolve

# Of an answer, this much is kept for whoever looks for the cause of a failure.
SNIPPET_BYTES = 1024


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. `status` is None where there was no answer."""

    status: int | None
    body: str
    error: str
    duration_ms: int

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def signature(secret: str, body: bytes, at: int) -> str:
    """`t=…,v1=…`: what the receiver computes anew, over the time, a dot and the body as it came."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def post(url: str, body: bytes, *, headers: dict[str, str]) -> Outcome:
    """Send it. Whatever goes wrong is the outcome's `error`, in a sentence."""
    started = time.monotonic()
    timeout_s: float = settings.WEBHOOKS["timeout_s"]
    ends = started + timeout_s
    status, snippet, error = None, "", ""
    try:
        status, snippet = _exchange(parse_url(url), body, headers, ends)
        if not 200 <= status < 300:
            error = f"The receiver answered {status}."
    except TimeoutError:
        error = f"No answer within {timeout_s:.0f} s."
    except Unusable as reason:
        error = str(reason)
    except (OSError, http.client.HTTPException) as reason:
        error = f"{type(reason).__name__}: {reason}"
    return Outcome(
        status=status,
        body=snippet,
        error=error[:500],
        duration_ms=int((time.monotonic() - started) * 1000),
    )


def _exchange(target: Target, body: bytes, headers: dict[str, str], ends: float) -> tuple[int, str]:
    addresses = resolve(target, timeout_s=ends - time.monotonic())
    connection = _Pinned(target, addresses, ends)
    # Timeouts of sockets count from one packet to the next; this one counts from the start.
    alarm = threading.Timer(max(0.0, ends - time.monotonic()), connection.cut)
    alarm.daemon = True
    alarm.start()
    try:
        connection.request(
            "POST",
            target.path,
            body=body,
            headers={"Host": target.host_header, "Connection": "close", **headers},
        )
        answer = connection.getresponse()
        return answer.status, _snippet(answer)
    except (OSError, http.client.HTTPException):
        if connection.is_cut:
            raise TimeoutError from None
        raise
    finally:
        alarm.cancel()
        connection.close()


def _snippet(answer: http.client.HTTPResponse) -> str:
    """The status is what counts: a body that breaks off changes nothing."""
    try:
        raw = answer.read(SNIPPET_BYTES)
    except http.client.IncompleteRead as broken:
        raw = broken.partial[:SNIPPET_BYTES]
    except (OSError, http.client.HTTPException):
        raw = b""
    # Postgres holds no NUL.
    return raw.decode("utf-8", "replace").replace("\0", "\ufffd")


class _Pinned(http.client.HTTPConnection):
    """Connects to the addresses that were checked; TLS is checked for the name all the same."""

    def __init__(self, target: Target, addresses: list[Address], ends: float) -> None:
        super().__init__(target.host, target.port)
        self.target = target
        self.addresses = addresses
        self.ends = ends
        self.is_cut = False

    def connect(self) -> None:
        plain = self._reach()
        if not self.target.is_tls:
            self.sock = plain
            return
        tls = _tls().wrap_socket(
            plain, server_hostname=self.target.host, do_handshake_on_connect=False
        )
        # Known before the handshake, so that it can be cut.
        self.sock = tls
        tls.do_handshake()

    def _reach(self) -> socket.socket:
        """The first address that takes the connection."""
        for left in range(len(self.addresses), 0, -1):
            seconds = (self.ends - time.monotonic()) / left
            if seconds <= 0:
                raise TimeoutError
            where = (str(self.addresses[-left]), self.target.port)
            try:
                return socket.create_connection(where, timeout=seconds)
            except OSError:
                if left == 1:
                    raise
        raise TimeoutError

    def cut(self) -> None:
        """From the alarm's thread: whatever waits on the socket ends at once."""
        self.is_cut = True
        connected: socket.socket | None = self.sock
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
