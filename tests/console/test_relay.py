"""The websocket of a console, through uvicorn as it is served, to the simulator over TLS."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from typing import Any

import pytest
from django.db import connection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from events.models import Event
from pve_simulator import accidents, screen
from tests.waiting import wait_until
from vms import console

pytestmark = pytest.mark.django_db(transaction=True)


def frame_with(*lines: str) -> bytes:
    return screen.render(["web-01 (VM 100)", "state: running", "", *lines], screen.PixelFormat())


def event(kind: str) -> Event:
    wait_until(lambda: Event.objects.filter(kind=kind).exists(), kind)
    found: Event = Event.objects.get(kind=kind)
    return found


def proxy_tasks_have_ended(sim: Any) -> bool:
    tasks = sim.tasks("vncproxy")
    return bool(tasks) and not any(task.is_running for task in tasks)


@pytest.fixture
def shortened(settings):
    """Times of the console, shortened."""

    def shorten(**values: float) -> None:
        settings.CONSOLE = {**settings.CONSOLE, **values}

    return shorten


# --- it works ---


@pytest.mark.services
@pytest.mark.parametrize("by", ["header", "query"])
def test_the_screen_is_shown_and_takes_keys(by, web, mint, sim, vm):
    ticket = mint()
    with web.open(ticket, by=by) as viewer:
        assert viewer.socket.subprotocol == "binary"
        assert viewer.begin() == "web-01"
        viewer.ask_for_frame()
        assert viewer.frame() == frame_with("_")
        viewer.press("ls")
        sim.wait_for(lambda s: s.consoles.typed.get(100) == "ls", what="the keys")
        viewer.ask_for_frame()
        assert viewer.frame() == frame_with("ls_")
    opened, closed = event("console.opened"), event("console.closed")
    for written in (opened, closed):
        assert (written.actor, written.subject) == ("token:operator", vm.uuid)
    assert opened.data == {"node": "pve"}
    assert closed.data["why"] == "the browser closed it"
    assert 0 <= closed.data["seconds"] < 20
    assert closed.data["bytes_shown"] > 2 * screen.WIDTH * screen.HEIGHT * 4
    assert closed.data["bytes_typed"] > 16
    assert ticket not in json.dumps(list(Event.objects.values("data", "subject_label")))


def test_nothing_of_proxmox_reaches_the_browser(web, mint, sim, monkeypatch):
    """Neither ticket nor password nor token is in any byte that is sent."""
    seen: list[Any] = []
    asked = console.ask_for_screen

    def note(vm: Any) -> Any:
        seen.append(asked(vm).vnc)
        return asked(vm)

    monkeypatch.setattr(console, "ask_for_screen", note)
    with web.open(mint()) as viewer:
        received: list[bytes] = []
        recv = viewer.socket.recv

        def record(timeout: float | None = None) -> Any:
            received.append(recv(timeout=timeout))
            return received[-1]

        viewer.socket.recv = record
        viewer.begin()
        viewer.ask_for_frame()
        viewer.frame()
    everything = b"".join(received)
    assert len(everything) > screen.WIDTH * screen.HEIGHT * 4
    for secret in (seen[0].ticket, seen[0].password, sim.token_secret, "PVEVNC"):
        assert secret.encode() not in everything


def test_a_password_cluster_opens_with_its_own_ticket(web, mint, sim, cluster):
    cluster.token_id, cluster.user, cluster.secret = "", "root@pam", sim.password
    cluster.save()
    with web.open(mint()) as viewer:
        assert viewer.begin() == "web-01"
    assert sim.calls_to("POST", "/access/ticket$")


def test_two_look_at_one_vm_side_by_side(web, mint, sim):
    with web.open(mint()) as first, web.open(mint()) as second:
        assert first.begin() == second.begin() == "web-01"
        first.press("a")
        sim.wait_for(lambda s: s.consoles.typed.get(100) == "a", what="the key")
        second.ask_for_frame()
        assert second.frame() == frame_with("a_")


# --- ends ---


@pytest.mark.services
def test_the_browsers_end_ends_the_session_in_proxmox(web, mint, sim):
    with web.open(mint()) as viewer:
        viewer.begin()
        assert sim.tasks("vncproxy")[0].is_running
    wait_until(lambda: proxy_tasks_have_ended(sim), "the task's end")
    assert [task.exitstatus for task in sim.tasks("vncproxy")] == ["OK"]


def test_a_browser_that_just_vanishes_ends_it_too(web, mint, sim):
    viewer = web.open(mint())
    viewer.begin()
    viewer.vanish()
    wait_until(lambda: proxy_tasks_have_ended(sim), "the task's end")
    assert event("console.closed").data["why"] == "the browser closed it"


def test_the_end_in_proxmox_ends_it_in_the_browser(web, mint, sim):
    with web.open(mint()) as viewer:
        viewer.begin()
        sim.change(lambda s: setattr(s.world.guests[100], "is_running", False))
        assert viewer.end() == (1000, "The VM was stopped or moved.")
    assert event("console.closed").data["why"] == "Proxmox closed it"


def test_nobody_there_for_long_ends_it(web, mint, sim, shortened):
    """The page's own asking for pictures does not count, a key does."""
    shortened(idle_s=1.0)
    with web.open(mint()) as viewer:
        viewer.begin()
        for _ in range(16):
            viewer.press("x")
            threading.Event().wait(0.1)
        stop = threading.Event()

        def ask_on() -> None:
            # The end may come between a look at `stop` and the next question.
            with suppress(ConnectionClosed):
                while not stop.wait(0.1):
                    viewer.ask_for_frame(incremental=1)

        page = threading.Thread(target=ask_on)
        page.start()
        try:
            code, words = viewer.end()
        finally:
            stop.set()
            page.join()
    assert (code, words) == (4408, "No key was pressed and no pointer moved for 1 seconds.")
    closed = event("console.closed")
    assert closed.data["why"] == "nobody used it"
    assert closed.data["seconds"] > 2.0
    wait_until(lambda: proxy_tasks_have_ended(sim), "the task's end")


def test_the_longest_time_ends_it(web, mint, shortened):
    shortened(longest_s=0.8)
    with web.open(mint()) as viewer:
        viewer.begin()
        viewer.press("x")
        assert viewer.end() == (4408, "A console stays open 0.8 seconds at most.")
    assert event("console.closed").data["why"] == "the longest time was over"


def test_a_side_that_takes_nothing_for_long_ends_it(web, mint, sim, shortened):
    shortened(stalled_s=0.5)
    viewer = web.open(mint())
    viewer.begin()
    viewer.ask_for_frame(times=100)
    # Nobody reads: what is on its way fills up, and stops moving.
    assert event("console.closed").data["why"] == "one side took nothing"
    wait_until(lambda: proxy_tasks_have_ended(sim), "the task's end")
    viewer.vanish()


def test_text_and_what_is_no_rfb_are_shown_the_door(web, mint):
    with web.open(mint()) as viewer:
        viewer.begin()
        viewer.socket.send("ls -l")
        assert viewer.end()[0] == 1003
    with web.open(mint()) as viewer:
        viewer.socket.send(b"GET / HTTP/1.1\r\n")
        assert viewer.end() == (1008, "What connected does not speak RFB 3.8.")


# --- tickets ---


@pytest.mark.parametrize("by", ["header", "query"])
def test_a_ticket_opens_once(by, web, mint, sim):
    ticket = mint()
    with web.open(ticket, by=by) as viewer:
        viewer.begin()
        with web.open(ticket, by=by) as other:
            assert other.end() == (4401, "This link was used already, or has expired.")
        viewer.ask_for_frame()
        assert viewer.frame() == frame_with("_"), "the first goes on"
    assert len(sim.tasks("vncproxy")) == 1
    assert Event.objects.filter(kind="console.opened").count() == 1


def test_a_wrong_ticket_opens_nothing(web, sim):
    for ticket in ("x" * 43, "short", "../../etc", ""):
        with web.open(ticket, by="query") as viewer:
            assert viewer.end()[0] == 4401
    assert sim.tasks("vncproxy") == []


def test_an_expired_ticket_opens_nothing(web, mint, sim, shortened):
    shortened(ticket_s=0.05)
    ticket = mint()
    threading.Event().wait(0.2)
    with web.open(ticket) as viewer:
        assert viewer.end()[0] == 4401
    assert sim.tasks("vncproxy") == []


# --- what keeps it from opening is said ---


@pytest.mark.parametrize(
    ("harm", "code", "words"),
    [
        ("stopped", 4409, "VM 100 web-01 is stopped; its console needs it to be running."),
        ("gone", 4404, "VM 100 web-01 is no longer on the cluster."),
        ("replaced", 4409, "VMID 100 is another VM now; it was left alone."),
        ("silent", 4503, "Proxmox cannot be reached now."),
        ("forbidden", 4502, "Izvor lacks the privilege VM.Console on /vms/100 in Proxmox."),
        ("full", 4502, "Proxmox answered: unable to find free port (5900-5999)"),
        ("unopened", 4502, "Proxmox answered: permission denied - invalid PVEVNC ticket"),
    ],
)
def test_what_keeps_it_from_opening_is_said(harm, code, words, web, mint, sim):
    ticket = mint()
    guest = "/nodes/pve/qemu/100"
    if harm == "silent":
        sim.cause(accidents.node_down, node="pve")
    elif harm == "forbidden":
        text = "Permission check failed (/vms/100, VM.Console)"
        sim.add_fault("status", path=f"{guest}/vncproxy", status=403, text=text)
    elif harm == "full":
        text = "unable to find free port (5900-5999)"
        sim.add_fault("status", path=f"{guest}/vncproxy", text=text)
    elif harm == "unopened":
        text = "permission denied - invalid PVEVNC ticket"
        sim.add_fault("status", path=f"{guest}/vncwebsocket", status=401, text=text)
    else:
        sim.change(lambda s: HARM[harm](s.world.guests))
    with web.open(ticket) as viewer:
        assert viewer.end() == (code, words)
    assert not Event.objects.filter(kind="console.opened").exists()


HARM = {
    "stopped": lambda guests: setattr(guests[100], "is_running", False),
    "gone": lambda guests: guests.pop(100),
    "replaced": lambda guests: guests[100].config.update(
        smbios1="uuid=11111111-2222-4333-8444-555555555555"
    ),
}


def test_a_proxmox_that_takes_its_time_is_given_up(web, mint, sim, shortened):
    shortened(open_s=0.5)
    ticket = mint()
    sim.add_fault("delay", path="/vncproxy$", seconds=100)
    with web.open(ticket) as viewer:
        assert viewer.end() == (4504, "Proxmox did not answer in time.")


def test_too_many_are_turned_away(web, mint, shortened):
    shortened(sessions=1)
    with web.open(mint()) as first:
        first.begin()
        with web.open(mint()) as second:
            assert second.end()[0] == 4429
        first.ask_for_frame()
        assert first.frame() == frame_with("_")


# --- who may knock ---


def knock(web: Any, ticket: str, **options: Any) -> int:
    """The status of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as refused:
        web.open(ticket, **options)
    return int(refused.value.response.status_code)


def test_another_sites_page_may_not_use_a_ticket(web, mint, sim):
    ticket = mint()
    for origin in ("https://evil.example.com", "http://127.0.0.1:1", "null"):
        assert knock(web, ticket, origin=origin) == 403
    with web.open(ticket, origin=web.origin) as viewer:
        assert viewer.begin() == "web-01", "the ticket is still good for our own page"


def test_an_unknown_host_is_not_served(web, mint):
    port = web.port
    assert knock(web, mint(), headers={"Host": f"evil.example.com:{port}"}) == 403


def test_there_is_no_other_websocket(web, mint):
    for path in ("/", "/api/v1/vms", "/console", "/console/websocket/x"):
        assert knock(web, mint(), path=path) == 403


def test_without_tokens_the_host_must_be_loopback(web, mint, settings):
    settings.IZVOR_AUTH = "none"
    settings.ALLOWED_HOSTS = ["*"]
    port = web.port
    assert knock(web, mint(), headers={"Host": f"rebound.example.com:{port}"}) == 403
    with web.open(mint(), origin=web.origin) as viewer:
        assert viewer.begin() == "web-01"


@pytest.mark.parametrize("moment", ["opened", "closed"])
def test_what_cannot_be_written_down_is_not_shown(moment, web, mint, sim):
    """The audit's table takes nothing: no console goes on unseen."""
    ticket = mint()
    with connection.cursor() as cursor:
        cursor.execute(
            "ALTER TABLE events_event ADD CONSTRAINT nothing_of_this "
            f"CHECK (kind <> 'console.{moment}') NOT VALID"
        )
    try:
        with web.open(ticket) as viewer:
            if moment == "closed":
                viewer.begin()
                viewer.socket.send("no RFB")
            assert viewer.end() == (4503, "A service that Izvor needs cannot be reached now.")
        wait_until(lambda: proxy_tasks_have_ended(sim), "the task's end")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE events_event DROP CONSTRAINT nothing_of_this")
