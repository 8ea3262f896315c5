"""The web process itself: what its log tells, what it holds in memory, how it ends."""

from __future__ import annotations

import signal
import struct
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed

from events.models import Event
from tests.console.viewer import FRAME
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024**2
# What may wait in our process, messages and buffers and all; a session needs far less than this.
HELD_BYTES_MAX = 24 * MIB


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_neither_tickets_nor_what_is_typed_are_in_the_log(level, web_process, mint, sim):
    web = web_process(IZVOR_LOG_LEVEL=level)
    tickets = [mint() for _ in range(4)]
    for ticket, by in zip(tickets, ("header", "query", "header", "query"), strict=True):
        with web.open(ticket, by=by) as viewer:
            viewer.begin()
            viewer.press("open sesame")
    with web.open(tickets[0], by="query") as viewer:
        assert viewer.end()[0] == 4401
    sim.wait_for(lambda s: s.consoles.typed.get(100) == "open sesame" * 4, what="the keys")
    wait_until(lambda: web.log.read_text().count("console_closed") == 4, "the log")
    log = web.log.read_text()
    assert "by=token:operator" in log
    for secret in (*tickets, sim.token_secret, "PVEVNC", "WebSocket /", "BINARY"):
        assert secret not in log


@pytest.mark.slow
def test_a_browser_that_reads_slowly_holds_proxmox_back(web_process, mint, sim):
    """A hundred pictures are asked for and not read: they wait in Proxmox, not in our memory."""
    pictures = 100
    web = web_process()
    with web.open(mint()) as viewer:
        viewer.begin()
        viewer.ask_for_frame()
        viewer.frame()
        before = web.resident_bytes()
        viewer.ask_for_frame(times=pictures)
        most = 0
        for _ in range(20):
            most = max(most, web.resident_bytes() - before)
            time.sleep(0.1)
        assert most < HELD_BYTES_MAX < pictures * FRAME / 3
        # And nothing of it was lost: all arrive once they are read.
        for _ in range(pictures):
            assert len(viewer.frame()) == FRAME
        assert web.resident_bytes() - before < HELD_BYTES_MAX


@pytest.mark.slow
def test_a_proxmox_that_reads_slowly_holds_the_browser_back(web_process, mint, sim):
    """A hundred megabytes of clipboard, while Proxmox stands still: they wait in the browser."""
    megabytes = 100
    web = web_process()
    with web.open(mint()) as viewer:
        viewer.begin()
        before = web.resident_bytes()
        freeze, sent = threading.Event(), 0
        frozen = threading.Thread(target=lambda: sim.change(lambda s: freeze.wait(8)))
        frozen.start()
        stop = threading.Event()

        def paste() -> None:
            nonlocal sent
            text = bytes(MIB - 8)
            for _ in range(megabytes):
                if stop.is_set():
                    return
                viewer.socket.send(struct.pack(">BxxxI", 6, len(text)) + text)
                sent += 1

        pasting = threading.Thread(target=paste)
        pasting.start()
        most = 0
        for _ in range(20):
            most = max(most, web.resident_bytes() - before)
            time.sleep(0.1)
        assert sent < megabytes / 2, "what the system's own buffers take, and no more"
        assert most < HELD_BYTES_MAX
        freeze.set()
        frozen.join(10)
        pasting.join(30)
        assert sent == megabytes, "it went on when Proxmox did"
        stop.set()
        viewer.press("k")
        sim.wait_for(lambda s: s.consoles.typed.get(100) == "k", what="the key behind it all")


def test_when_it_is_stopped_it_closes_its_consoles_and_writes_that_down(web_process, mint, sim):
    web = web_process()
    with web.open(mint()) as viewer:
        viewer.begin()
        began = time.monotonic()
        web.process.send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed) as closed:
            viewer.read(1)
        told = closed.value.rcvd
        assert told is not None
        assert told.code == 1012
        assert web.process.wait(10) in {0, -signal.SIGTERM, 128 + signal.SIGTERM}
        assert time.monotonic() - began < 3
    assert Event.objects.get(kind="console.closed").data["why"] == "Izvor was stopped"
    wait_until(lambda: not any(task.is_running for task in sim.tasks("vncproxy")))
    assert "Traceback" not in web.log.read_text()
