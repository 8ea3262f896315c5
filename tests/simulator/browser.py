"""A headless Chromium, driven over its DevTools protocol with nothing but aiohttp."""

from __future__ import annotations

import asyncio
import base64
import itertools
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
DEADLINE_S = 60.0


class Page:
    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def do(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await self._socket.receive_json(timeout=DEADLINE_S)
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])

    async def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives there."""
        answer = await self.do("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while not await self.value(expression):
            assert time.monotonic() < deadline, (expression, await self.value("window.seen"))
            await asyncio.sleep(0.05)

    async def press(self, key: str) -> None:
        """A key as a person's keyboard gives it; `Enter` or one character."""
        code = key if len(key) > 1 else f"Key{key.upper()}" if key.isalpha() else f"Digit{key}"
        text = "\r" if key == "Enter" else key
        await self.do("Input.dispatchKeyEvent", type="keyDown", key=key, code=code, text=text)
        await self.do("Input.dispatchKeyEvent", type="keyUp", key=key, code=code)

    async def screenshot(self, file: Path) -> None:
        answer = await self.do("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def opened(
    executable: str, folder: Path, session: ClientSession, url: str
) -> AsyncIterator[Page]:
    """A page at `url`; the browser keeps its profile in `folder` and ends with the block."""
    command = [executable, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = await _debugging_port(process, folder / "DevToolsActivePort")
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            target = next(row for row in await answer.json() if row["type"] == "page")
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            page = Page(socket)
            await page.do("Page.navigate", url=url)
            yield page
    finally:
        process.terminate()
        process.wait()


async def _debugging_port(process: subprocess.Popen[bytes], file: Path) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while not file.exists() or "\n" not in file.read_text():
        assert process.poll() is None, "the browser ended"
        assert time.monotonic() < deadline, "the browser did not open its port"
        await asyncio.sleep(0.05)
    return int(file.read_text().split("\n")[0])
