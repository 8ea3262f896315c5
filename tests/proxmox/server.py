"""A TLS server that answers exactly what a test tells it to, misbehaviour included.

Shares nothing with the simulator: what is tested here is the client's way with bytes.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class Seen:
    """A request as it arrived. `path` is decoded, `raw_path` is not."""

    method: str
    raw_path: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True)
class Say:
    """An answer: `body` is sent as JSON, a text as it stands."""

    body: Any = None
    status: int = 200
    reason: str = "OK"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """Read the request, perhaps send these bytes, and close."""

    first: bytes = b""


@dataclass(frozen=True)
class Drip:
    """Send these bytes one at a time, one each `every_s`."""

    data: bytes
    every_s: float = 0.05


@dataclass(frozen=True)
class Hang:
    """Never answer."""


Behaviour = Say | Drop | Drip | Hang
Answer = Callable[[Seen], Behaviour]


def data(value: object) -> Say:
    """Proxmox's envelope around an answer."""
    return Say({"data": value})


VERSION = data({"version": "8.4.21", "release": "8.4", "repoid": "2606ac850d46da29"})
# A task's name as a change gives it.
UPID = "UPID:pve1:00000174:0005354B:6B03FB8B:qmstart:9000:izvor@pve!api:"


def answers(*behaviours: Behaviour) -> Answer:
    """One behaviour after the other; the last one from then on."""
    left = list(behaviours)

    def answer(seen: Seen) -> Behaviour:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


class Server:
    """Listens on a free port of 127.0.0.1 until `close`. `answer` may be exchanged at any time."""

    def __init__(self, context: ssl.SSLContext, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[Seen] = []
        self.handshakes = 0
        self.is_closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener = _Listener(("127.0.0.1", 0), _handler(self))
        self._listener.wrap = lambda plain: self._wrap(context, plain)
        self.port = self._listener.server_address[1]
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def close(self) -> None:
        self.is_closing.set()
        self._listener.shutdown()
        self.drop_connections()
        self._listener.server_close()
        self._thread.join()

    def drop_connections(self) -> None:
        """Closes what clients keep open, as pveproxy does after 5 s."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def _wrap(self, context: ssl.SSLContext, plain: socket.socket) -> ssl.SSLSocket:
        sock = context.wrap_socket(plain, server_side=True)
        self.handshakes += 1
        with self._lock:
            self._open.add(sock)
        return sock


class _Listener(ThreadingHTTPServer):
    daemon_threads = False
    wrap: Callable[[socket.socket], ssl.SSLSocket]

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the connection's own thread: a client that refuses our certificate holds up nobody.
        with contextlib.suppress(OSError), self.wrap(request) as sock:
            super().finish_request(sock, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what the tests are about."""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            url = urlsplit(self.path)
            seen = Seen(
                self.command,
                self.path,
                unquote(url.path),
                dict(parse_qsl(url.query, keep_blank_values=True)),
                dict(self.headers.items()),
                self.rfile.read(length),
            )
            server.seen.append(seen)
            self._behave(server.answer(seen))

        do_GET = do_POST = do_PUT = do_DELETE = handle_any

        def _behave(self, behaviour: Behaviour) -> None:
            if isinstance(behaviour, Say):
                self._say(behaviour)
                return
            self.close_connection = True
            if isinstance(behaviour, Drop):
                self.wfile.write(behaviour.first)
            elif isinstance(behaviour, Drip):
                for byte in behaviour.data:
                    self.wfile.write(bytes([byte]))
                    if server.is_closing.wait(behaviour.every_s):
                        return
            else:
                server.is_closing.wait(30)

        def _say(self, say: Say) -> None:
            body = say.body if isinstance(say.body, str) else json.dumps(say.body)
            raw = body.encode()
            self.send_response_only(say.status, say.reason)
            self.send_header("Content-Length", str(len(raw)))
            for name, value in say.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler


@contextlib.contextmanager
def serving(context: ssl.SSLContext, answer: Answer) -> Iterator[Server]:
    server = Server(context, answer)
    try:
        yield server
    finally:
        server.close()
