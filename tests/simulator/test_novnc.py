"""noVNC itself, in a real browser, on the simulator's console: it connects, draws and types."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType, web

from pve_simulator import screen
from pve_simulator.testing import SimulatorThread
from tests.browser import (
    BACKGROUND,
    FOREGROUND,
    NOVNC,
    chromium,
    colours,
    lit_pixels,
    needs_browser,
    wait_for_lit_pixels,
)
from tests.simulator.client import Api

VM = "/nodes/pve/qemu/100"
PAGE = """<!doctype html><title>console</title><body style="margin:0"><div id="screen"></div>
<script type="module">
import RFB from "/novnc/core/rfb.js";
window.seen = [];
const rfb = new RFB(document.getElementById("screen"), `ws://${location.host}/relay`,
                    {credentials: {password: PASSWORD}});
for (const name of ["connect", "disconnect", "securityfailure", "credentialsrequired",
                    "desktopname"]) {
  rfb.addEventListener(name, (event) => window.seen.push(`${name} ${event.detail.name ?? ""}`));
}
window.rfb = rfb;
</script>"""
HEAD = ("web-01 (VM 100)", "state: running", "")
UNTOUCHED = lit_pixels(*HEAD, "_")
TYPED = lit_pixels(*HEAD, "ls", "42_")

pytestmark = needs_browser


class Site:
    """Serves the page and noVNC, and relays to the websocket of Proxmox, as a web server would."""

    def __init__(
        self, sim: SimulatorThread, password: str, target: str, headers: dict[str, str]
    ) -> None:
        self._page = PAGE.replace("PASSWORD", repr(password))
        self._target = target
        self._headers = headers
        self._tls = ssl.create_default_context(cafile=str(sim.ca_file))

    @contextmanager
    def served(self) -> Iterator[str]:
        """Its address; it is served by a loop of its own."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="test-site")
        thread.start()
        runner = asyncio.run_coroutine_threadsafe(self._start(), loop).result(10)
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        asyncio.run_coroutine_threadsafe(self._stop(runner), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

    async def _start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/", self._serve_page)
        app.router.add_get("/relay", self._relay)
        app.router.add_static("/novnc", NOVNC)
        self._session = ClientSession(connector=TCPConnector(ssl=self._tls))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    async def _stop(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        await self._session.close()

    async def _serve_page(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._page, content_type="text/html")

    async def _relay(self, request: web.Request) -> web.WebSocketResponse:
        near = web.WebSocketResponse(max_msg_size=0)
        await near.prepare(request)
        async with self._session.ws_connect(
            self._target, headers=self._headers, protocols=("binary",), max_msg_size=0
        ) as far:

            async def carry(source: Any, sink: Any) -> None:
                async for message in source:
                    if message.type == WSMsgType.BINARY:
                        await sink.send_bytes(message.data)
                await sink.close()

            await asyncio.gather(carry(near, far), carry(far, near))
        return near


@contextmanager
def a_site(sim: SimulatorThread, api: Api) -> Iterator[tuple[str, dict[str, Any]]]:
    """A page on a fresh vncproxy: its address, and what vncproxy answered."""
    proxy = api.post(f"{VM}/vncproxy", websocket=1, **{"generate-password": 1}).data
    query = urlencode({"port": proxy["port"], "vncticket": proxy["ticket"]})
    target = f"wss://127.0.0.1:{sim.port}/api2/json{VM}/vncwebsocket?{query}"
    with Site(sim, proxy["password"], target, dict(api.headers)).served() as url:
        yield url, proxy


@pytest.mark.parametrize("credentials", ["token", "ticket"])
def test_novnc_connects_draws_and_types(tmp_path: Path, credentials: str):
    with SimulatorThread() as sim:
        api = Api(sim)
        if credentials == "ticket":
            login = {"username": "root@pam", "password": sim.password}
            found = Api(sim, headers={}).post("/access/ticket", **login).data
            headers = {"Cookie": f"PVEAuthCookie={found['ticket']}"}
            csrf = {"CSRFPreventionToken": found["CSRFPreventionToken"]}
            api = Api(sim, headers=headers | csrf)
        # The browser first: a proxy that nobody opens ends after ten seconds.
        with chromium() as browser, a_site(sim, api) as (url, proxy):
            page = browser.new_page()
            page.goto(url)
            wait_for_lit_pixels(page, UNTOUCHED)
            before = colours(page)
            page.evaluate("window.rfb.focus()")
            for key in ("l", "s", "Enter", "4", "2"):
                page.keyboard.press(key)
            sim.wait_for(lambda live: live.consoles.typed.get(100) == "ls\n42")
            wait_for_lit_pixels(page, TYPED)
            page.screenshot(path=tmp_path / "console.png")
            seen = page.evaluate("window.seen")

        assert seen == ["desktopname web-01", "connect "]
        assert (before["width"], before["height"]) == (screen.WIDTH, screen.HEIGHT)
        assert set(before["counts"]) == {FOREGROUND, BACKGROUND}
        assert UNTOUCHED < TYPED
        sim.wait_for(lambda live: not live.world.tasks[proxy["upid"]].is_running)
        assert api.task(proxy["upid"])["exitstatus"] == "OK"
    assert (tmp_path / "console.png").stat().st_size > 1000
