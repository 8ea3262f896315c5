"""A web process in a thread, as `manage.py serve` runs it, and one who listens to its events."""

from __future__ import annotations

import json
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from izvor_project.asgi import application
from izvor_project.server import Server
from tests.waiting import wait_until

PATIENCE_S = 20.0


@contextmanager
def web_server() -> Iterator[str]:
    """Its address, e.g. http://127.0.0.1:40001."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_graceful_shutdown=5,
        )
        server = Server(config)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listening]}, name="test-web"
        )
        thread.start()
        try:
            wait_until(lambda: server.started, "the server's start")
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


@dataclass
class Message:
    """One message of the stream."""

    id: int
    type: str
    data: dict[str, Any]


@dataclass
class Listening:
    """Reads a stream in a thread of its own, with nothing but a socket."""

    url: str
    token: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""
    status: int = 0
    head: str = ""
    comments: list[str] = field(default_factory=list)
    last_id: int | None = None
    is_over: bool = False
    body: bytes = b""

    def __enter__(self) -> Listening:
        self._messages: queue.Queue[Message] = queue.Queue()
        host, _, port = self.url.removeprefix("http://").partition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=PATIENCE_S)
        headers = {"Host": f"{host}:{port}", **self.headers}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        lines = [f"GET /api/v1/events{self.query} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self._file = self.socket.makefile("rb")
        self._read_head()
        if self.status == 200:
            self._thread = threading.Thread(target=self._read, name="test-listener")
            self._thread.start()
            self.wait_for(lambda: self.last_id is not None or self.is_over, "the beginning")
        return self

    def __exit__(self, *error: object) -> None:
        if self.status == 200:
            # Ends the reading thread's wait, too.
            self.socket.shutdown(socket.SHUT_RDWR)
            self._thread.join(PATIENCE_S)
        self._file.close()
        self.socket.close()

    def next(self, seconds: float = PATIENCE_S) -> Message:
        return self._messages.get(timeout=seconds)

    def take(self, count: int) -> list[Message]:
        return [self.next() for _ in range(count)]

    def is_silent_for(self, seconds: float) -> bool:
        try:
            self._messages.get(timeout=seconds)
        except queue.Empty:
            return True
        return False

    def wait_for(self, is_true: Any, what: str) -> None:
        wait_until(is_true, what)

    def _read_head(self) -> None:
        lines = []
        while (line := self._file.readline()) not in {b"\r\n", b""}:
            lines.append(line.decode())
        self.head = "".join(lines)
        self.status = int(lines[0].split()[1])
        if self.status != 200:
            lengths = [x.split(":")[1] for x in lines if x.lower().startswith("content-length")]
            self.body = self._file.read(int(lengths[0])) if lengths else b"".join(self._chunks())

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            for line in self._lines():
                if line.startswith(":"):
                    self.comments.append(line[1:].strip())
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif fields:
                    if "id" in fields:
                        self.last_id = int(fields["id"])
                    if "data" in fields:
                        data = json.loads(fields["data"])
                        self._messages.put(Message(int(fields["id"]), fields["event"], data))
                    fields = {}
        except OSError:
            pass
        self.is_over = True

    def _lines(self) -> Iterator[str]:
        rest = b""
        for chunk in self._chunks():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode() for line in lines)

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._file.readline().strip() or b"0", 16):
            yield self._file.read(size)
            self._file.readline()
