"""The RFB 3.8 protocol of a VNC server, with VNC authentication, over any byte stream."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from . import screen
from .screen import PixelFormat

VERSION = b"RFB 003.008\n"
VNC_AUTH = 2
RAW_ENCODING = 0
MAX_CLIPBOARD_BYTES = 1 << 20
BACKSPACE, RETURN = 0xFF08, 0xFF0D
Send = Callable[[bytes], Awaitable[None]]


class Stream:
    """Bytes that arrive in messages of any size, read by length."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._is_closed = False
        self._news = asyncio.Event()

    def feed(self, data: bytes) -> None:
        self._buffer += data
        self._news.set()

    def close(self) -> None:
        self._is_closed = True
        self._news.set()

    async def read(self, length: int) -> bytes:
        """Exactly that many bytes; EOFError when the other side is gone."""
        while len(self._buffer) < length:
            if self._is_closed:
                raise EOFError
            self._news.clear()
            await self._news.wait()
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data


def expected_response(password: str, challenge: bytes) -> bytes:
    """The challenge enciphered with the password, its bits mirrored as VNC does."""
    key = password.encode()[:8].ljust(8, b"\0")
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    cipher = Cipher(TripleDES(mirrored * 3), modes.ECB())  # noqa: S305 (the protocol is so)
    encryptor = cipher.encryptor()
    return encryptor.update(challenge) + encryptor.finalize()


class RfbServer:
    """One client. `lines` gives what the screen shows, `type_key` takes a pressed key."""

    def __init__(
        self,
        *,
        stream: Stream,
        send: Send,
        password: str,
        title: str,
        lines: Callable[[], list[str]],
        type_key: Callable[[int], None],
    ) -> None:
        self._stream = stream
        self._send = send
        self._password = password
        self._title = title
        self._lines = lines
        self._type_key = type_key
        self._pixels = PixelFormat()
        self._shown: list[str] | None = None
        self._is_update_wanted = False

    async def run(self, poll_s: float) -> None:
        """Until the client leaves; the screen is looked at every `poll_s` for changes."""
        await self._send(VERSION)
        await self._stream.read(12)
        if not await self._authenticate():
            return
        await self._stream.read(1)
        title = self._title.encode()
        size = struct.pack(">HH", screen.WIDTH, screen.HEIGHT)
        await self._send(size + self._pixels.pack() + struct.pack(">I", len(title)) + title)
        watcher = asyncio.get_running_loop().create_task(self._watch(poll_s))
        try:
            while True:
                await self._take_message()
        except EOFError:
            return
        finally:
            watcher.cancel()

    async def _authenticate(self) -> bool:
        await self._send(bytes([1, VNC_AUTH]))
        chosen = (await self._stream.read(1))[0]
        if chosen != VNC_AUTH:
            return False
        challenge = os.urandom(16)
        await self._send(challenge)
        answer = await self._stream.read(16)
        if answer != expected_response(self._password, challenge):
            text = b"Authentication failed"
            await self._send(struct.pack(">II", 1, len(text)) + text)
            return False
        await self._send(struct.pack(">I", 0))
        return True

    async def _take_message(self) -> None:
        kind = (await self._stream.read(1))[0]
        if kind == 0:
            await self._stream.read(3)
            self._pixels = PixelFormat.parse(await self._stream.read(16))
            self._shown = None
        elif kind == 2:
            count = struct.unpack(">xH", await self._stream.read(3))[0]
            await self._stream.read(4 * count)
        elif kind == 3:
            is_incremental = (await self._stream.read(9))[0]
            self._is_update_wanted = True
            if not is_incremental:
                self._shown = None
            await self._update()
        elif kind == 4:
            is_down, key = struct.unpack(">BxxI", await self._stream.read(7))
            if is_down:
                self._type_key(key)
                await self._update()
        elif kind == 5:
            await self._stream.read(5)
        elif kind == 6:
            length = abs(struct.unpack(">3xi", await self._stream.read(7))[0])
            await self._stream.read(min(length, MAX_CLIPBOARD_BYTES))
        else:
            raise EOFError

    async def _watch(self, poll_s: float) -> None:
        while True:
            await asyncio.sleep(poll_s)
            await self._update()

    async def _update(self) -> None:
        """Send the screen if the client waits for it and it changed."""
        lines = self._lines()
        if not self._is_update_wanted or lines == self._shown:
            return
        self._is_update_wanted, self._shown = False, lines
        head = struct.pack(">BxHHHHHi", 0, 1, 0, 0, screen.WIDTH, screen.HEIGHT, RAW_ENCODING)
        await self._send(head + screen.render(lines, self._pixels))
