"""Opening a VM's screen: at the machine that gave the ticket, trusted as the client trusts it."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from proxmox import (
    BadAnswer,
    Client,
    Password,
    ProxmoxError,
    Rejected,
    TimedOut,
    Tls,
    Token,
    Unauthorized,
    Unreachable,
    Untrusted,
)
from proxmox.results import VncTicket
from proxmox.rfb import Reader, answer_challenge, log_in
from proxmox.screen import Screen, open_screen
from pve_simulator import rfb as simulated
from pve_simulator import screen as pixels
from pve_simulator.testing import SimulatorThread

FRAME = pixels.WIDTH * pixels.HEIGHT * 4


@pytest.fixture
def sim() -> Iterator[SimulatorThread]:
    with SimulatorThread(speed=100, seed=1, has_endpoint_per_node=True) as simulator:
        yield simulator


@pytest.fixture
def client_for(sim: SimulatorThread) -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(*urls: str, **options: Any) -> Client:
        settings: dict[str, Any] = {
            "credentials": Token.parse(sim.token_id, sim.token_secret),
            "tls": Tls.from_ca_file(sim.ca_file),
            **options,
        }
        clients.append(Client(urls or [sim.url], **settings))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def using(
    client: Client,
    talk: Callable[[Screen], Coroutine[Any, Any, Any]],
    *,
    vnc: VncTicket | None = None,
    tls: Tls | None = None,
    run: Callable[..., Any] = uvloop.run,
    timeout_s: float = 10,
) -> Any:
    """Open the screen of VM 100 as the web server does (on uvloop), and talk."""
    ticket = vnc or client.vncproxy("pve", 100)

    async def session() -> Any:
        context = (tls or client.tls).context()
        screen = await open_screen(ticket, context, timeout_s=timeout_s)
        try:
            return await talk(screen)
        finally:
            await screen.close()

    return run(session())


async def look(screen: Screen) -> tuple[str, bytes]:
    """ClientInit, then one whole picture: the VM's name, and the pixels."""
    reader = Reader(screen.read)
    await screen.write(b"\1")
    await reader.read(20)
    (length,) = struct.unpack(">I", await reader.read(4))
    name = (await reader.read(length)).decode()
    await screen.write(struct.pack(">BBHHHH", 3, 0, 0, 0, pixels.WIDTH, pixels.HEIGHT))
    await reader.read(16)
    return name, await reader.read(FRAME)


SCREEN = pixels.render(["web-01 (VM 100)", "state: running", "", "_"], pixels.PixelFormat())


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
def test_it_shows_the_vm(client_for, run):
    assert using(client_for(), look, run=run) == ("web-01", SCREEN)


def test_with_a_password_and_its_ticket_too(client_for, sim):
    client = client_for(credentials=Password("root@pam", sim.password))
    assert using(client, look) == ("web-01", SCREEN)


def test_a_pinned_certificate_and_none_at_all_are_ways_to_trust(client_for, sim):
    shown = ssl.get_server_certificate(("127.0.0.1", sim.port))
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest()
    for tls in (Tls.pinned(pin), Tls.insecure()):
        assert using(client_for(tls=tls), look) == ("web-01", SCREEN)


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
@pytest.mark.parametrize("tls", [Tls.pinned("0" * 64), Tls.system()])
def test_another_certificate_is_not_spoken_to(client_for, sim, tls, run):
    client = client_for()
    vnc = client.vncproxy("pve", 100)
    sim.forget_calls()
    with pytest.raises(Untrusted):
        using(client, look, vnc=vnc, tls=tls, run=run)
    assert sim.calls == [], "neither ticket nor token left"


def test_it_goes_to_the_machine_that_answered(client_for, sim):
    """The port lives there and nowhere else, whichever node the VM runs on."""
    client = client_for(sim.url_of("pve3"), sim.url_of("pve"))
    vnc = client.vncproxy("pve", 100)
    assert str(vnc.endpoint) == sim.url_of("pve3").removeprefix("https://")
    assert using(client, look, vnc=vnc)[0] == "web-01"


def test_a_name_may_stand_for_several_machines(client_for, sim):
    """`localhost` is ::1 as well, where nobody listens: the one that answered is gone back to."""
    client = client_for(sim.url.replace("127.0.0.1", "localhost"))
    vnc = client.vncproxy("pve", 100)
    assert (vnc.endpoint.host, vnc.address) == ("localhost", "127.0.0.1")
    assert using(client, look, vnc=vnc)[0] == "web-01"


def test_a_ticket_is_good_once_and_what_refuses_it_repeats_no_secret(client_for):
    client = client_for()
    vnc = client.vncproxy("pve", 100)
    using(client, look, vnc=vnc)
    with pytest.raises(Unauthorized) as refused:
        using(client, look, vnc=vnc)
    assert vnc.ticket not in str(refused.value)
    assert vnc.password not in str(refused.value)


def test_proxys_refusal_and_a_closed_port_are_told_apart(client_for, sim, closed_port):
    client = client_for()
    vnc = client.vncproxy("pve", 100)
    sim.add_fault("status", path="/vncwebsocket$", status=596, text="Connection timed out")
    with pytest.raises(Unreachable, match="Connection timed out"):
        using(client, look, vnc=vnc)
    port = int(closed_port.rsplit(":", 1)[1])
    moved = vnc_at(vnc, port)
    with pytest.raises(Unreachable) as refused:
        using(client, look, vnc=moved)
    assert type(refused.value) is Unreachable
    assert f"127.0.0.1:{port}: " in str(refused.value)


def test_a_silent_machine_ends_with_the_time(client_for, silent_port):
    client = client_for()
    vnc = vnc_at(client.vncproxy("pve", 100), int(silent_port.rsplit(":", 1)[1]))
    with pytest.raises(TimedOut):
        using(client, look, vnc=vnc, timeout_s=0.3)


def vnc_at(vnc: VncTicket, port: int) -> VncTicket:
    from dataclasses import replace

    return replace(vnc, endpoint=replace(vnc.endpoint, port=port))


def test_closing_ends_the_session_in_proxmox(client_for, sim):
    using(client_for(), look)
    (task,) = sim.tasks("vncproxy")
    sim.wait_for(lambda s: not s.world.tasks[task.upid].is_running, what="the task's end")
    assert sim.tasks("vncproxy")[0].exitstatus == "OK"


def test_the_end_in_proxmox_is_read_as_the_end(client_for, sim):
    async def wait_for_the_end(screen: Screen) -> bytes:
        await look(screen)
        sim.change(lambda s: setattr(s.world.guests[100], "is_running", False))
        while data := await asyncio.wait_for(screen.read(), 5):
            assert data
        await screen.write(b"nobody reads this")
        return data

    assert using(client_for(), wait_for_the_end) == b""


def test_a_long_message_goes_in_pieces_that_pveproxy_takes(client_for, sim):
    """A clipboard of 300 KiB: pveproxy drops the connection at a message of more than 128."""

    async def paste(screen: Screen) -> bytes:
        await look(screen)
        text = b"x" * 300 * 1024
        await screen.write(struct.pack(">BxxxI", 6, len(text)) + text)
        await screen.write(struct.pack(">BBxxI", 4, 1, ord("k")))
        await asyncio.to_thread(sim.wait_for, lambda s: s.consoles.typed.get(100) == "k")
        return b"arrived"

    assert using(client_for(), paste) == b"arrived"


# --- the words of RFB ---


def converse(*server_says: bytes) -> list[bytes]:
    """What the client says to such a server."""
    coming = iter(server_says)
    said: list[bytes] = []

    async def receive() -> bytes:
        return next(coming)

    async def send(data: bytes) -> None:
        said.append(data)

    asyncio.run(log_in(Reader(receive), send, "secret"))
    return said


VERSION, OK = b"RFB 003.008\n", bytes(4)


def test_the_challenge_is_answered_as_vnc_wants_it():
    challenge = bytes(range(16))
    assert answer_challenge("secret", challenge) == simulated.expected_response("secret", challenge)
    assert answer_challenge("longer than eight", challenge) == answer_challenge(
        "longer t", challenge
    )
    assert converse(VERSION, b"\2\x13\2", challenge, OK) == [
        VERSION,
        b"\2",
        answer_challenge("secret", challenge),
    ]


def test_a_server_that_wants_no_password_is_given_none():
    assert converse(VERSION, b"\1\1", OK) == [VERSION, b"\1"]


@pytest.mark.parametrize(
    ("says", "kind", "words"),
    [
        ([b"HTTP/1.1 400 Bad Request"], BadAnswer, "no VNC server"),
        ([VERSION, b"\1\x13"], Rejected, "not spoken here"),
        ([VERSION, b"\0", struct.pack(">I", 4) + b"busy"], Rejected, "busy"),
        ([VERSION, b"\1\1", struct.pack(">II", 1, 2) + b"no"], Rejected, "no"),
        ([VERSION, b"\1\1", struct.pack(">II", 1, 10**9)], Rejected, "does not say why"),
    ],
)
def test_what_lets_us_not_in_says_why(says: list[bytes], kind: type[ProxmoxError], words: str):
    with pytest.raises(kind, match=words):
        converse(*says)
