"""As much of a VNC client as is needed to look and to type, over Izvor's websocket."""

from __future__ import annotations

import struct
from contextlib import ExitStack
from socket import SHUT_RDWR
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Origin

from pve_simulator import screen

FRAME = screen.WIDTH * screen.HEIGHT * 4
VERSION = b"RFB 003.008\n"
TIMEOUT_S = 20.0


class Viewer:
    """Open after construction. `by` says how the ticket is handed in: `header` or `query`."""

    def __init__(
        self,
        host: str,
        port: int,
        ticket: str,
        *,
        by: str = "header",
        path: str = "/console/websocket",
        headers: dict[str, str] | None = None,
        origin: str | None = None,
    ) -> None:
        self._buffer = b""
        options: dict[str, Any] = {"compression": None, "proxy": None, "max_size": None}
        options["subprotocols"] = ["binary"]
        if by == "header":
            options["subprotocols"].append(f"izvor.ticket.{ticket}")
        query = f"?ticket={ticket}" if by == "query" else ""
        self._stack = ExitStack()
        self.socket = self._stack.enter_context(
            connect(
                f"ws://{host}:{port}{path}{query}",
                additional_headers=headers,
                origin=Origin(origin) if origin else None,
                open_timeout=TIMEOUT_S,
                ping_interval=None,
                **options,
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def vanish(self) -> None:
        """As a machine that is switched off, without a word."""
        self.socket.socket.shutdown(SHUT_RDWR)
        self._stack.close()

    def read(self, length: int) -> bytes:
        pieces = [self._buffer]
        have = len(self._buffer)
        while have < length:
            piece = self.socket.recv(timeout=TIMEOUT_S)
            assert isinstance(piece, bytes)
            pieces.append(piece)
            have += len(piece)
        data = b"".join(pieces)
        self._buffer = data[length:]
        return data[:length]

    def begin(self) -> str:
        """As far as the VM's name; the browser is asked for no password."""
        assert self.read(12) == VERSION
        self.socket.send(VERSION)
        assert self.read(2) == b"\1\1"
        self.socket.send(b"\1")
        assert self.read(4) == bytes(4)
        self.socket.send(b"\1")
        self.read(20)
        (length,) = struct.unpack(">I", self.read(4))
        return self.read(length).decode()

    def ask_for_frame(self, *, times: int = 1, incremental: int = 0) -> None:
        ask = struct.pack(">BBHHHH", 3, incremental, 0, 0, screen.WIDTH, screen.HEIGHT)
        self.socket.send(ask * times)

    def frame(self) -> bytes:
        """The pixels of a screen that was asked for."""
        self.read(16)
        return self.read(FRAME)

    def press(self, text: str) -> None:
        for char in text:
            self.socket.send(struct.pack(">BBxxI", 4, 1, ord(char)))

    def _read_on(self) -> None:
        while True:
            self.socket.recv(timeout=TIMEOUT_S)

    def end(self) -> tuple[int, str]:
        """Read until it is closed: with which code, and in which words."""
        with pytest.raises(ConnectionClosed) as closed:
            self._read_on()
        told = closed.value.rcvd
        assert told is not None, "the connection just broke"
        return told.code, told.reason
