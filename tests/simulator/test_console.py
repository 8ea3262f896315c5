from __future__ import annotations

import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import pytest

from pve_simulator import rfb, screen
from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api
from tests.simulator.websocket import Refused, WebSocket

VM = "/nodes/pve/qemu/100"


class VncClient:
    """As much of a VNC client as is needed to look and to type."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._buffer = b""

    def read(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._buffer += self._socket.receive()
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    def shake_hands(self, password: str) -> int:
        """The security result: 0 is welcome."""
        assert self.read(12) == rfb.VERSION
        self._socket.send(rfb.VERSION)
        count = self.read(1)[0]
        assert rfb.VNC_AUTH in self.read(count)
        self._socket.send(bytes([rfb.VNC_AUTH]))
        challenge = self.read(16)
        self._socket.send(rfb.expected_response(password, challenge))
        return int(struct.unpack(">I", self.read(4))[0])

    def initialise(self) -> tuple[int, int, str]:
        self._socket.send(b"\1")
        width, height = struct.unpack(">HH", self.read(4))
        self.read(16)
        length = struct.unpack(">I", self.read(4))[0]
        return width, height, self.read(length).decode()

    def frame(self, *, incremental: int = 0) -> bytes:
        """The pixels of a whole screen."""
        size = (screen.WIDTH, screen.HEIGHT)
        self._socket.send(struct.pack(">BBHHHH", 3, incremental, 0, 0, *size))
        kind, count = struct.unpack(">BxH", self.read(4))
        assert (kind, count) == (0, 1)
        _, _, width, height, encoding = struct.unpack(">HHHHi", self.read(12))
        assert encoding == rfb.RAW_ENCODING
        return self.read(width * height * 4)

    def press(self, text: str) -> None:
        for char in text:
            for is_down in (1, 0):
                self._socket.send(struct.pack(">BBxxI", 4, is_down, ord(char)))


@contextmanager
def opened(sim: SimulatorThread, proxy: dict[str, Any]) -> Iterator[VncClient]:
    tls = ssl.create_default_context(cafile=str(sim.ca_file))
    query = urlencode({"port": proxy["port"], "vncticket": proxy["ticket"]})
    target = f"/api2/json{VM}/vncwebsocket?{query}"
    headers = {"Authorization": f"PVEAPIToken={sim.token_id}={sim.token_secret}"}
    with WebSocket(port=sim.port, target=target, headers=headers, tls=tls) as socket:
        yield VncClient(socket)


def open_proxy(api: Api, **params: object) -> dict[str, Any]:
    answer = api.post(f"{VM}/vncproxy", websocket=1, **params)
    assert answer.status == 200, answer.reason
    found: dict[str, Any] = answer.data
    return found


def test_a_viewer_sees_the_screen_and_what_it_types(sim: SimulatorThread, api: Api):
    proxy = open_proxy(api, **{"generate-password": 1})

    with opened(sim, proxy) as viewer:
        assert viewer.shake_hands(proxy["password"]) == 0
        width, height, title = viewer.initialise()
        assert (width, height, title) == (screen.WIDTH, screen.HEIGHT, "web-01")
        before = viewer.frame()
        viewer.press("ls")
        sim.wait_for(lambda live: live.consoles.typed.get(100) == "ls", what="the keys")
        after = viewer.frame(incremental=1)
    lines = ["web-01 (VM 100)", "state: running", "", "_"]
    assert before == screen.render(lines, screen.PixelFormat())
    assert before != after
    assert api.task(proxy["upid"])["exitstatus"] == "OK"


def test_a_wrong_password_is_turned_away(sim: SimulatorThread, api: Api):
    proxy = open_proxy(api, **{"generate-password": 1})

    with opened(sim, proxy) as viewer:
        assert viewer.shake_hands("wrong") == 1


def test_without_a_password_the_ticket_is_it(sim: SimulatorThread, api: Api):
    proxy = open_proxy(api)

    with opened(sim, proxy) as viewer:
        assert viewer.shake_hands(proxy["ticket"]) == 0


def test_a_ticket_of_another_port_or_user_does_not_open(sim: SimulatorThread, api: Api):
    proxy = open_proxy(api)

    wrong = proxy | {"ticket": proxy["ticket"] + "x"}
    with pytest.raises(Refused) as caught, opened(sim, wrong):
        raise AssertionError("opened")
    assert caught.value.status == 401


def test_a_proxy_that_nobody_opens_ends_after_ten_seconds(api: Api):
    proxy = open_proxy(api)
    assert proxy["port"] == "5900"
    assert api.task(proxy["upid"])["exitstatus"] == "connection timed out"


def test_each_open_proxy_has_a_port_of_its_own(api: Api):
    assert [open_proxy(api)["port"] for _ in range(3)] == ["5900", "5901", "5902"]


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_a_client_may_choose_its_pixel_format(bits: int):
    maxima = {8: (7, 7, 3), 16: (31, 63, 31), 32: (255, 255, 255)}[bits]
    shifts = {8: (0, 3, 6), 16: (11, 5, 0), 32: (16, 8, 0)}[bits]
    pixels = screen.PixelFormat(bits, False, maxima, shifts)
    assert screen.PixelFormat.parse(pixels.pack()) == pixels
    frame = screen.render(["HELLO"], pixels)
    assert len(frame) == screen.WIDTH * screen.HEIGHT * bits // 8
