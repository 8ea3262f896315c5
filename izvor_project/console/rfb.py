"""RFB as seen from the browser: the first words, and who is typing."""

from __future__ import annotations

import struct
from collections.abc import Callable

from proxmox.rfb import NO_AUTHENTICATION, VERSION, Reader, Send


class NotRfb(Exception):
    """The browser's side does not speak RFB 3.8."""


async def welcome(reader: Reader, send: Send) -> None:
    """The server's side of the login, without one: the ticket has let them in. ClientInit follows.

    Raises NotRfb.
    """
    await send(VERSION)
    if await reader.read(len(VERSION)) != VERSION:
        raise NotRfb
    await send(bytes([1, NO_AUTHENTICATION]))
    if await reader.read(1) != bytes([NO_AUTHENTICATION]):
        raise NotRfb
    await send(bytes(4))


# By a client's message type: how many of its first bytes tell its length, and that length, 0 for
# what is not known.
LENGTHS: dict[int, tuple[int, Callable[[bytes], int]]] = {
    0: (1, lambda head: 20),  # SetPixelFormat
    2: (4, lambda head: 4 + 4 * struct.unpack(">xxH", head)[0]),  # SetEncodings
    3: (1, lambda head: 10),  # FramebufferUpdateRequest
    4: (1, lambda head: 8),  # KeyEvent
    5: (2, lambda head: 7 if head[1] & 0x80 else 6),  # PointerEvent, maybe with more buttons
    6: (8, lambda head: 8 + abs(struct.unpack(">4xi", head)[0])),  # ClientCutText
    150: (1, lambda head: 10),  # EnableContinuousUpdates
    248: (9, lambda head: 9 + head[8]),  # ClientFence
    251: (7, lambda head: 8 + 16 * head[6]),  # SetDesktopSize
    255: (2, lambda head: 0 if head[1] else 12),  # QEMU's KeyEvent, with a scan code
}
UNKNOWN: tuple[int, Callable[[bytes], int]] = (1, lambda head: 0)
BY_A_PERSON = {4, 5, 6, 255}


class InputWatch:
    """Follows what a VNC client sends, and tells a person's doing from the page's own.

    Keys, pointer and clipboard are a person's; to ask for the next picture is not. What it cannot
    follow counts as a person's from there on: better to end a session too late than too early.
    """

    def __init__(self) -> None:
        self._head = b""
        self._skip = 1  # ClientInit
        self._is_lost = False

    def sees_input(self, data: bytes) -> bool:
        """Whether a person did something in these bytes."""
        found, at = False, 0
        while at < len(data) and not self._is_lost:
            step = min(self._skip, len(data) - at)
            self._skip -= step
            at += step
            if at < len(data):
                self._head += data[at : at + 1]
                at += 1
                found |= self._begins_input()
        return found or self._is_lost

    def _begins_input(self) -> bool:
        """Looks at the head of a message; once it tells the length, the rest is skipped."""
        kind = self._head[0]
        needed, length = LENGTHS.get(kind, UNKNOWN)
        if len(self._head) < needed:
            return False
        self._skip = length(self._head) - needed
        self._is_lost = self._skip < 0
        self._head = b""
        return kind in BY_A_PERSON
