"""Accepts connections: TLS for the API, a redirect for whoever speaks plain HTTP to it.

As pveproxy does, the first byte decides. An endpoint may belong to a node: while that node is down
its connections are reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable

HANDSHAKE_S = 10.0
TLS_HANDSHAKE = 0x16
BACKLOG = 256
HANDSHAKE_REFUSED = bytes([0x15, 3, 3, 0, 2, 2, 40])
"""A TLS alert: fatal, handshake failure."""
_RESET = struct.pack("ii", 1, 0)

Factory = Callable[[], asyncio.Protocol]


class Listener:
    """One open port. `context`, `is_down` and `is_refusing` (the handshake fails) are asked for
    each connection."""

    def __init__(
        self,
        *,
        factory: Factory,
        context: Callable[[], ssl.SSLContext],
        is_down: Callable[[], bool],
        is_refusing: Callable[[], bool],
    ) -> None:
        self._factory = factory
        self._context = context
        self._is_down = is_down
        self._is_refusing = is_refusing
        self._socket: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def open(self, host: str, port: int) -> None:
        """Bind and listen; OSError when that is impossible."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((host, port))
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        self.port = int(listening.getsockname()[1])
        self._spawn(self._accept(listening))

    async def close(self) -> None:
        if self._socket is None:
            return
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._socket.close()
        self._socket = None

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except OSError:
                await asyncio.sleep(0.05)  # out of file descriptors: some will come free
                continue
            self._spawn(self._welcome(accepted))

    async def _welcome(self, accepted: socket.socket) -> None:
        if self._is_down():
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            accepted.close()
            return
        try:
            first = await asyncio.wait_for(_peek(accepted), HANDSHAKE_S)
            if first == TLS_HANDSHAKE and self._is_refusing():
                await asyncio.wait_for(_refuse(accepted), HANDSHAKE_S)
            elif first == TLS_HANDSHAKE:
                await asyncio.get_running_loop().connect_accepted_socket(
                    self._factory,
                    accepted,
                    ssl=self._context(),
                    ssl_handshake_timeout=HANDSHAKE_S,
                    ssl_shutdown_timeout=1.0,
                )
                return
            elif first is not None:
                await asyncio.wait_for(self._redirect(accepted), HANDSHAKE_S)
            accepted.close()
        except (OSError, TimeoutError, asyncio.CancelledError):
            accepted.close()

    async def _redirect(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        request = (await loop.sock_recv(accepted, 8192)).decode("latin-1")
        lines = request.split("\r\n")
        parts = lines[0].split(" ")
        hosts = [line[5:].strip() for line in lines if line.lower().startswith("host:")]
        host = hosts[0] if hosts else f"127.0.0.1:{self.port}"
        target = parts[1] if len(parts) > 1 and parts[1].startswith("/") else "/"
        body = "Moved Permanently"
        answer = (
            f"HTTP/1.1 301 Moved Permanently\r\nLocation: https://{host}{target}\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        )
        await loop.sock_sendall(accepted, answer.encode("latin-1"))


async def _refuse(accepted: socket.socket) -> None:
    """Take the client's greeting, or closing would be a reset, and decline."""
    loop = asyncio.get_running_loop()
    await loop.sock_recv(accepted, 65536)
    await loop.sock_sendall(accepted, HANDSHAKE_REFUSED)


async def _peek(accepted: socket.socket) -> int | None:
    """The first byte that will be read, None when the other side hung up."""
    accepted.setblocking(False)
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(accepted.fileno(), readable.set)
    try:
        while True:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                first = accepted.recv(1, socket.MSG_PEEK)
                return first[0] if first else None
    finally:
        loop.remove_reader(accepted.fileno())
