"""A websocket client of a few lines: binary messages over TLS, nothing more (RFC 6455)."""

from __future__ import annotations

import os
import socket
import ssl
import struct
from types import TracebackType
from typing import Self

BINARY, CLOSE = 0x2, 0x8
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
TIMEOUT_S = 10.0


class Refused(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status


class WebSocket:
    """Open after construction; `Refused` when the server answers anything but 101."""

    def __init__(self, *, port: int, target: str, headers: dict[str, str], tls: ssl.SSLContext):
        plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._socket = tls.wrap_socket(plain, server_hostname="127.0.0.1")
        lines = [f"GET {target} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
        lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
        lines += [f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Protocol: binary"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._fill()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        _, status, reason = head.split(b"\r\n")[0].decode().split(" ", 2)
        if status != "101":
            self._socket.close()
            raise Refused(int(status), reason)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def _fill(self) -> None:
        received = self._socket.recv(65536)
        if not received:
            raise EOFError
        self._buffer += received

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._fill()
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    def send(self, data: bytes) -> None:
        mask = os.urandom(4)
        size = (
            bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack(">H", len(data))
        )
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self._socket.sendall(bytes([0x80 | BINARY]) + size + mask + masked)

    def receive(self) -> bytes:
        """The next message's bytes; EOFError when the server closes."""
        first, size = self._take(2)
        length = size & 0x7F
        if length == 126:
            length = struct.unpack(">H", self._take(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", self._take(8))[0]
        data = self._take(length)
        if first & 0xF == CLOSE:
            raise EOFError
        return data
