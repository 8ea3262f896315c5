"""Somebody who is told: a real HTTP server that keeps what comes and answers as it is told to."""

from __future__ import annotations

import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from events.sending import signature


@dataclass(frozen=True)
class Heard:
    path: str
    headers: dict[str, str]
    body: bytes

    def is_signed_with(self, secret: str) -> bool:
        """As a receiver checks it."""
        parts = dict(part.split("=", 1) for part in self.headers["izvor-signature"].split(","))
        return self.headers["izvor-signature"] == signature(secret, self.body, int(parts["t"]))


@dataclass
class Receiver:
    """`answer` gets the request's handler; by default it says 200."""

    port: int = 0
    scheme: str = "http"
    heard: list[Heard] = field(default_factory=list)
    answer: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None

    def url(self, host: str = "127.0.0.1", path: str = "/hook") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """From now on answer so."""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answer = answer


@contextmanager
def receiving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    receiver = Receiver()
    receiver.say(200, b"thanks")

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            receiver.heard.append(Heard(self.path, headers, body))
            assert receiver.answer is not None
            try:
                receiver.answer(self)
            except OSError:
                self.close_connection = True

        def do_GET(self) -> None:
            receiver.heard.append(Heard(self.path, {}, b""))
            self.send_error(405)

        def log_message(self, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            """Of TLS that was refused: the test's own matter."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        receiver.scheme = "https"
    receiver.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()
