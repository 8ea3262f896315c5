"""One open console: bytes in both directions, neither side faster than the other takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from django.conf import settings

from izvor_project.console.rfb import InputWatch
from izvor_project.listening import Receive, Send
from proxmox.rfb import Reader
from proxmox.screen import Screen

# Close codes for the browser: 4000 and the HTTP status that says the same, else a standard one.
NORMAL, NOT_BINARY, RESTART, NOT_ALLOWED, LIMIT = 1000, 1003, 1012, 4403, 4408


@dataclass(frozen=True)
class End:
    """Why a session ended: `why` for the audit, `code` and `sentence` for the browser."""

    why: str
    code: int = NORMAL
    sentence: str = ""


CLOSED_BY_BROWSER = End("the browser closed it")
STOPPED = End("Izvor was stopped", RESTART)
CLOSED_BY_PROXMOX = End("Proxmox closed it", NORMAL, "The VM was stopped or moved.")
SENT_TEXT = End("the browser sent text", NOT_BINARY, "Only binary messages are taken here.")
TAKEN_AWAY = End(
    "the right to it was taken away", NOT_ALLOWED, "You may no longer use this console."
)
STUCK = End("one side took nothing", LIMIT, "One side took nothing for too long.")


class Gone(Exception):
    """The browser's side is closed, by itself or by a server that is told to stop."""

    def __init__(self, code: int = NORMAL) -> None:
        super().__init__()
        self.end = STOPPED if code == RESTART else CLOSED_BY_BROWSER


class TextSent(Exception):
    """RFB is binary; whoever sends text speaks something else."""


class Browser:
    """The browser's end, counted and awaited."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self.reader = Reader(self.read)
        self.shown = self.typed = 0

    async def read(self) -> bytes:
        """The next message. Raises Gone, TextSent."""
        message = await self._receive()
        if message["type"] == "websocket.disconnect":
            raise Gone(message.get("code", NORMAL))
        data = message.get("bytes")
        if data is None:
            raise TextSent
        self.typed += len(data)
        return bytes(data)

    async def write(self, data: bytes) -> None:
        """Returns once it may be followed by more. Raises Gone."""
        try:
            await self._send({"type": "websocket.send", "bytes": data})
        except (OSError, RuntimeError):  # uvicorn's, of a client that has left or was given up
            raise Gone from None
        self.shown += len(data)

    async def close(self, code: int, sentence: str) -> None:
        # A close frame holds 123 bytes of text.
        reason = sentence.encode()[:123].decode(errors="ignore")
        try:
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except (OSError, RuntimeError):
            return


class Session:
    """`is_allowed` says whether whoever opened it may still use it; it is asked again and again."""

    def __init__(
        self, browser: Browser, screen: Screen, is_allowed: Callable[[], Awaitable[bool]]
    ) -> None:
        self._browser = browser
        self._screen = screen
        self._is_allowed = is_allowed
        self._watch = InputWatch()
        self._clock = asyncio.get_running_loop().time
        self._began = self._last_input = self._clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._began

    async def run(self) -> End:
        """Carry bytes until one side closes or a limit is reached."""
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._carry_keys(),
                self._carry_pictures(),
                self._keep_time(),
                self._keep_right(),
            )
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _carry_keys(self) -> End:
        while True:
            try:
                data = await self._from_browser()
            except Gone as gone:
                return gone.end
            except TextSent:
                return SENT_TEXT
            if self._watch.sees_input(data):
                self._last_input = self._clock()
            if not await taken(self._screen.write, data):
                return STUCK

    async def _from_browser(self) -> bytes:
        reader = self._browser.reader
        if reader.left:
            left, reader.left = reader.left, b""
            return left
        return await self._browser.read()

    async def _carry_pictures(self) -> End:
        while data := await self._screen.read():
            try:
                if not await taken(self._browser.write, data):
                    return STUCK
            except Gone as gone:
                return gone.end
        return CLOSED_BY_PROXMOX

    async def _keep_right(self) -> End:
        while True:
            await asyncio.sleep(settings.CONSOLE["recheck_s"])
            if not await self._is_allowed():
                return TAKEN_AWAY

    async def _keep_time(self) -> End:
        longest_s, idle_s = settings.CONSOLE["longest_s"], settings.CONSOLE["idle_s"]
        while True:
            now = self._clock()
            longest_left = self._began + longest_s - now
            idle_left = self._last_input + idle_s - now
            if longest_left <= 0:
                said = f"A console stays open {spoken(longest_s)} at most."
                return End("the longest time was over", LIMIT, said)
            if idle_left <= 0:
                said = f"No key was pressed and no pointer moved for {spoken(idle_s)}."
                return End("nobody used it", LIMIT, said)
            await asyncio.sleep(min(longest_left, idle_left))


async def taken(write: Callable[[bytes], Awaitable[None]], data: bytes) -> bool:
    """Whether the other side took it in good time."""
    try:
        async with asyncio.timeout(settings.CONSOLE["stalled_s"]):
            await write(data)
    except TimeoutError:
        return False
    return True


def spoken(seconds: float) -> str:
    for unit_s, unit in ((3600, "hours"), (60, "minutes")):
        if seconds >= unit_s and seconds % unit_s == 0:
            count = int(seconds // unit_s)
            return f"{count} {unit}" if count > 1 else f"one {unit.removesuffix('s')}"
    return f"{seconds:g} seconds"
