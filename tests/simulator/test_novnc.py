"""noVNC itself, in a real browser, on the simulator's console: it connects, draws and types."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType, web

from pve_simulator import screen
from pve_simulator.testing import SimulatorThread
from tests.simulator import browser
from tests.simulator.client import Api

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NPM = shutil.which("npm")
PACKAGE = "@novnc/novnc@1.7"
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
window.colours = () => {
  const canvas = document.querySelector("canvas");
  const {data, width, height} = canvas.getContext("2d").getImageData(
      0, 0, canvas.width, canvas.height);
  const counts = {};
  for (let i = 0; i < data.length; i += 4) {
    const colour = [data[i], data[i + 1], data[i + 2]].join();
    counts[colour] = (counts[colour] ?? 0) + 1;
  }
  return {counts, width, height};
};
</script>"""
FOREGROUND = ",".join(str(part) for part in screen.FOREGROUND)
BACKGROUND = ",".join(str(part) for part in screen.BACKGROUND)


def lit_pixels(*lines: str) -> int:
    """How many pixels of the text's colour a screen with these lines has."""
    frame = screen.render(list(lines), screen.PixelFormat())
    light = screen.PixelFormat().pixel(screen.FOREGROUND)
    return sum(frame[at : at + 4] == light for at in range(0, len(frame), 4))


HEAD = ("web-01 (VM 100)", "state: running", "")
UNTOUCHED = lit_pixels(*HEAD, "_")
TYPED = lit_pixels(*HEAD, "ls", "42_")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.skipif(NPM is None, reason="npm is not installed"),
]


@pytest.fixture(scope="module")
def novnc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as npm gives it."""
    folder = tmp_path_factory.mktemp("novnc")
    command = [str(NPM), "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "node_modules" / "@novnc" / "novnc"


class Site:
    """Serves the page and noVNC, and relays to the websocket of Proxmox, as a web server would."""

    def __init__(self, novnc: Path, password: str, target: str, headers: dict[str, str]) -> None:
        self._page = PAGE.replace("PASSWORD", repr(password))
        self._target = target
        self._headers = headers
        app = web.Application()
        app.router.add_get("/", self._serve_page)
        app.router.add_get("/relay", self._relay)
        app.router.add_static("/novnc", novnc)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)

    async def start(self, session: ClientSession) -> str:
        self._session = session
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}/"

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


async def look_and_type(
    sim: SimulatorThread, site: Site, folder: Path
) -> tuple[list[str], dict[str, Any], dict[str, Any]]:
    """What noVNC told, and the screen's colours before and after typing."""
    tls = ssl.create_default_context(cafile=str(sim.ca_file))
    drawn = f"window.colours().counts['{FOREGROUND}'] === {{}}"
    async with ClientSession(connector=TCPConnector(ssl=tls)) as session:
        url = await site.start(session)
        try:
            async with browser.opened(str(CHROMIUM), folder / "profile", session, url) as page:
                await page.until("window.seen && window.seen.includes('connect ')")
                await page.until(drawn.format(UNTOUCHED))
                before = await page.value("window.colours()")
                await page.value("window.rfb.focus()")
                for key in ("l", "s", "Enter", "4", "2"):
                    await page.press(key)
                await asyncio.to_thread(
                    sim.wait_for, lambda live: live.consoles.typed.get(100) == "ls\n42"
                )
                await page.until(drawn.format(TYPED))
                after = await page.value("window.colours()")
                await page.screenshot(folder / "console.png")
                return await page.value("window.seen"), before, after
        finally:
            await site.runner.cleanup()


@pytest.mark.parametrize("credentials", ["token", "ticket"])
def test_novnc_connects_draws_and_types(novnc: Path, tmp_path: Path, credentials: str):
    with SimulatorThread() as sim:
        api = Api(sim)
        if credentials == "ticket":
            login = {"username": "root@pam", "password": sim.password}
            found = Api(sim, headers={}).post("/access/ticket", **login).data
            headers = {"Cookie": f"PVEAuthCookie={found['ticket']}"}
            csrf = {"CSRFPreventionToken": found["CSRFPreventionToken"]}
            api = Api(sim, headers=headers | csrf)
        proxy = api.post(f"{VM}/vncproxy", websocket=1, **{"generate-password": 1}).data
        query = urlencode({"port": proxy["port"], "vncticket": proxy["ticket"]})
        target = f"wss://127.0.0.1:{sim.port}/api2/json{VM}/vncwebsocket?{query}"
        site = Site(novnc, proxy["password"], target, dict(api.headers))

        seen, before, after = asyncio.run(look_and_type(sim, site, tmp_path))

        assert seen == ["desktopname web-01", "connect "]
        assert (before["width"], before["height"]) == (screen.WIDTH, screen.HEIGHT)
        assert set(before["counts"]) == {FOREGROUND, BACKGROUND}
        assert (before["counts"][FOREGROUND], after["counts"][FOREGROUND]) == (UNTOUCHED, TYPED)
        assert UNTOUCHED < TYPED
        assert api.task(proxy["upid"])["exitstatus"] == "OK"
    assert (tmp_path / "console.png").stat().st_size > 1000
