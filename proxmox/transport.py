"""Requests to whichever endpoint answers: deadlines, certificates, retries, circuit breakers.

The rule that everything here serves: a question (`is_repeatable`) may be asked again anywhere; what
changes something may go to another endpoint only while it is certain that nothing of it was sent.
"""

from __future__ import annotations

import http.client
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import urllib3
from urllib3.connection import HTTPSConnection
from urllib3.exceptions import HTTPError

from proxmox.classify import PROXY_LAYER
from proxmox.deadline import Attempt, Deadline, attempting, current_attempt
from proxmox.endpoints import Breaker, Endpoint
from proxmox.errors import OutcomeUnknown, TimedOut, Unreachable, Untrusted
from proxmox.names import resolve
from proxmox.tls import PinnedContext, Tls, is_untrusted

# How many threads of one process may speak to one endpoint at once without connecting anew.
POOL_SIZE = 32
# pveproxy closes a connection that idles for 5 s. One that is nearly there is not worth the risk
# that the request crosses with the closing and its outcome is unknown.
REUSE_WITHIN_S = 4.0

# Whether to try again is decided here, where it is known what was asked and what was sent.
NO_RETRIES = urllib3.Retry(total=False)

Body = bytes | IO[bytes]


@dataclass(frozen=True, slots=True)
class Request:
    """`target` is path and query; `body` makes a fresh one for each try."""

    method: str
    target: str
    is_repeatable: bool
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: Callable[[], Body] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, with the names by which proxmoxer reads it."""

    status_code: int
    reason: str
    content: bytes = field(repr=False)
    endpoint: Endpoint
    peer: str = ""

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


class Connection(HTTPSConnection):
    """A connection that is made, and waited for, within the call's deadline."""

    _used_at = 0.0

    def _new_conn(self) -> socket.socket:
        attempt = current_attempt() or Attempt(Deadline(60.0))
        longest_s = float(self.timeout) if isinstance(self.timeout, int | float) else 60.0
        failure: OSError | None = None
        for family, address in resolve(self.host, self.port or 443, attempt.time_left_s()):
            sock = socket.socket(family, socket.SOCK_STREAM)
            try:
                sock.settimeout(min(longest_s, attempt.time_left_s()))
                sock.connect(address)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure or OSError(f"the name {self.host} has no address")

    def connect(self) -> None:
        super().connect()
        # Our context has checked what it was told to; urllib3 knows of CAs only, and would warn of
        # every connection whose certificate is pinned.
        self.is_verified = True

    def request(self, *args: Any, **options: Any) -> None:
        self._used_at = time.monotonic()
        attempt = current_attempt()
        if attempt is not None and self.sock is not None:
            attempt.peer = self.sock.getpeername()[0]
        super().request(*args, **options)

    @property
    def is_connected(self) -> bool:
        return super().is_connected and time.monotonic() - self._used_at < REUSE_WITHIN_S


class Pool(urllib3.HTTPSConnectionPool):
    ConnectionCls = Connection


class Route:
    """One endpoint with its connections and its breaker."""

    def __init__(self, endpoint: Endpoint, context: PinnedContext, connect_timeout_s: float):
        self.endpoint = endpoint
        self.breaker = Breaker()
        self.last_failure: Failure | None = None
        self._connect_timeout_s = connect_timeout_s
        self.pool = Pool(
            endpoint.host, endpoint.port, maxsize=POOL_SIZE, block=False, ssl_context=context
        )

    def send(self, request: Request, deadline: Deadline, *, others: int) -> Reply:
        """One try; `others` are endpoints left to try after it. Raises Lost."""
        with attempting(deadline) as attempt:
            started_at = time.monotonic()
            try:
                reply = self._send(request, attempt, others)
            except (HTTPError, OSError, http.client.HTTPException) as error:
                self._note_failure(attempt, time.monotonic() - started_at)
                self.last_failure = Failure(
                    f"{self.endpoint}: {_describe(error, attempt)}",
                    attempt.has_sent,
                    is_untrusted(error),
                )
                raise Lost(self.last_failure) from error
            self.breaker.worked()
            return reply

    def _send(self, request: Request, attempt: Attempt, others: int) -> Reply:
        left_s = attempt.time_left_s()
        # A port that swallows packets must not use up a short call, while others could take it.
        connect_s = min(self._connect_timeout_s, left_s / (others + 1))
        response = self.pool.urlopen(
            request.method,
            request.target,
            body=request.body() if request.body else None,
            headers=dict(request.headers),
            retries=NO_RETRIES,
            redirect=False,
            timeout=urllib3.Timeout(connect=connect_s, read=left_s),
        )
        return Reply(
            response.status, response.reason or "", response.data, self.endpoint, attempt.peer
        )

    def _note_failure(self, attempt: Attempt, took_s: float) -> None:
        had_its_time = not attempt.deadline.is_over or took_s >= self._connect_timeout_s
        if not attempt.has_sent and had_its_time:
            self.breaker.failed()
        else:
            self.breaker.lost_answer()


@dataclass(frozen=True, slots=True)
class Failure:
    """How a try ended; kept without its exception, which would hold on to sockets."""

    sentence: str
    has_sent: bool
    is_untrusted: bool


class Lost(Exception):
    """A try that brought no answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.sentence)
        self.failure = failure


# How OpenSSL frames what it has to say.
_OPENSSL = re.compile(r"^\[SSL[^\]]*\] | \(_ssl\.c:\d+\)$")


def _describe(error: BaseException, attempt: Attempt) -> str:
    """One short clause. Never the error's own text unless it is the system's or TLS's: urllib3
    writes paths and addresses of Python objects into its own."""
    if attempt.deadline.is_over:
        return "no complete answer in time" if attempt.has_sent else "no connection in time"
    for cause in _causes(error):
        if isinstance(cause, TimeoutError):
            return "no connection in time"
        if isinstance(cause, OSError) and (cause.strerror or cause.args):
            text = _OPENSSL.sub("", str(cause.strerror or cause.args[0]))
            return text[:1].lower() + text[1:]
    return "the connection was closed without a complete answer"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and those it was made of, the innermost last; urllib3 hides some in `args`."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        inner = [part for part in error.args if isinstance(part, BaseException)]
        error = inner[0] if inner else error.__cause__ or error.__context__


class Transport:
    """Thread-safe. `endpoints` in order of preference; the one that answered last goes first."""

    def __init__(
        self, endpoints: Sequence[Endpoint], tls: Tls, *, connect_timeout_s: float
    ) -> None:
        if not endpoints:
            raise ValueError("a cluster needs at least one endpoint")
        context = tls.context()
        self._routes = [
            Route(endpoint, context, connect_timeout_s) for endpoint in dict.fromkeys(endpoints)
        ]
        self._preferred = self._routes[0]

    def close(self) -> None:
        for route in self._routes:
            route.pool.close()

    def exchange(self, request: Request, deadline: Deadline) -> Reply:
        """The answer of the first endpoint that gives one, whatever its status.

        Raises Unreachable (or TimedOut, Untrusted) where the request had no effect or is
        repeatable, OutcomeUnknown where it was sent, is not, and brought no answer.
        """
        failures: dict[Route, Failure] = {}
        proxied: Reply | None = None
        # A second round for questions: a kept connection may have been closed under the first.
        for _round in range(2 if request.is_repeatable else 1):
            routes = self._in_order()
            for position, route in enumerate(routes):
                if deadline.is_over or not route.breaker.admits():
                    continue
                others = len(routes) - position - 1
                try:
                    reply = route.send(request, _share(deadline, others, request), others=others)
                except Lost as lost:
                    failures[route] = lost.failure
                    if lost.failure.has_sent and not request.is_repeatable:
                        raise OutcomeUnknown(
                            f"the request was sent, but no answer came ({lost})"
                        ) from lost
                    continue
                if reply.status_code in PROXY_LAYER and request.is_repeatable and others:
                    # This endpoint cannot reach the node; another may.
                    proxied = reply
                    continue
                self._preferred = route
                return reply
            if proxied is not None:
                return proxied
        raise self._unreachable(failures, deadline)

    def _in_order(self) -> list[Route]:
        """Healthy ones first, among them the one that answered last."""
        return sorted(
            self._routes,
            key=lambda route: (not route.breaker.is_closed, route is not self._preferred),
        )

    def _unreachable(self, failures: Mapping[Route, Failure], deadline: Deadline) -> Unreachable:
        """Says of each endpoint what happened, now or when it was last tried."""
        known, is_untrusted_somewhere = [], False
        for route in self._routes:
            failure = failures.get(route)
            if failure is None and not route.breaker.is_closed:
                failure = route.last_failure
            if failure is None:
                continue
            is_untrusted_somewhere |= failure.is_untrusted
            again = (
                "" if route in failures else f", tried again in {route.breaker.retry_in_s:.0f} s"
            )
            known.append(failure.sentence + again)
        sentence = "; ".join(known) or "the deadline passed before any was tried"
        kind = (
            Untrusted if is_untrusted_somewhere else TimedOut if deadline.is_over else Unreachable
        )
        return kind(f"no Proxmox endpoint answered: {sentence}")


def _share(deadline: Deadline, others: int, request: Request) -> Deadline:
    """Half of what is left while others could answer a question as well, else all of it.

    So an endpoint that takes requests and never answers does not use up the whole call.
    """
    if not others or not request.is_repeatable:
        return deadline
    return Deadline(deadline.remaining_s / 2)
