"""How much slower is a console through Izvor than the TLS websocket itself?

`python -m benchmarks.console` starts, each in a process of its own, a source of VNC bytes over TLS
and the relay as the web server runs it, reads the source directly and through the relay in turn,
and prints the medians and their ratio. No database, no Redis, nothing but loopback; under a minute.

A browser and a Proxmox are other machines than Izvor's. So client and source share a core, read
directly or through the relay, and the relay has one of its own: else three processes would share
what two have to themselves, and the ratio would say how many cores there are.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import ipaddress
import multiprocessing
import os
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

HOST = "127.0.0.1"
FRAME = bytes(64 * 1024)
VERSION = b"RFB 003.008\n"
KEY = b"\4\1\0\0\0\0\0a"
OPTIONS: dict[str, Any] = {"compression": None, "ping_interval": None, "max_size": None}


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.console", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each throughput round")
    parser.add_argument("--keys", type=int, default=2000, help="of each latency round")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        with (
            started(run_source, certificate) as source,
            started(run_relay, certificate, source) as relay,
        ):
            keep_to(ENDS)
            tls = ssl.create_default_context(cafile=str(certificate))
            direct = Way(f"wss://{HOST}:{source}", {"ssl": tls})
            relayed = Way(f"ws://{HOST}:{relay}", {})
            uvloop.run(compare(direct, relayed, asked))


async def compare(direct: Way, relayed: Way, asked: argparse.Namespace) -> None:
    await measure(direct, relayed, 1, lambda way: throughput(way, 0.3))  # warm up
    speeds = await measure(
        direct, relayed, asked.rounds, lambda way: throughput(way, asked.seconds)
    )
    times = await measure(direct, relayed, asked.rounds, lambda way: latency(way, asked.keys))
    (direct_speed, relay_speed), (direct_ms, relay_ms) = speeds, times
    say("throughput, 64 KiB frames", "MiB/s", direct_speed, relay_speed)
    say("a key there and back, p50", "ms", direct_ms, relay_ms)
    print(f"{'ratio of throughputs':28} {relay_speed / direct_speed:10.2f}")
    print(f"{'added to a key, p50':28} {relay_ms - direct_ms:10.2f} ms")


def say(what: str, unit: str, direct: float, relayed: float) -> None:
    print(f"{what:28} {direct:10.2f} {unit} direct {relayed:10.2f} {unit} relayed")


async def measure(
    direct: Way, relayed: Way, rounds: int, one: Callable[[Way], Any]
) -> tuple[float, float]:
    """Medians of both, taken in turn, so that what else the machine does meets both alike."""
    found: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for way, results in zip((direct, relayed), found, strict=True):
            results.append(await one(way))
    return statistics.median(found[0]), statistics.median(found[1])


# --- the client ---


class Way:
    """How to reach the source: an address, and what else `connect` needs for it."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        self.address = address
        self.options = options

    def open(self, what: str) -> connect:
        return connect(f"{self.address}/{what}", proxy=None, **OPTIONS, **self.options)


async def begin(socket: ClientConnection) -> None:
    await socket.recv()
    await socket.send(VERSION)
    await socket.recv()
    await socket.send(b"\1")
    await socket.recv()
    await socket.send(b"\1")


async def throughput(way: Way, seconds: float) -> float:
    """MiB a second."""
    async with way.open("flood") as socket:
        await begin(socket)
        await socket.recv()
        began, count = time.perf_counter(), 0
        while (took := time.perf_counter() - began) < seconds:
            count += len(await socket.recv())
        socket.transport.abort()
    return count / took / 1024**2


async def latency(way: Way, keys: int) -> float:
    """Milliseconds from a key to its answer, the median."""
    taken = []
    async with way.open("echo") as socket:
        await begin(socket)
        for _ in range(keys):
            began = time.perf_counter()
            await socket.send(KEY)
            await socket.recv()
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


# --- the source, as Proxmox: TLS, a websocket, RFB without a password ---


def run_source(ready: Connection, certificate: Path) -> None:
    keep_to(ENDS)

    async def talk(socket: ServerConnection) -> None:
        try:
            await socket.send(VERSION)
            await socket.recv()
            await socket.send(b"\1\1")
            await socket.recv()
            await socket.send(bytes(4))
            await socket.recv()
            assert socket.request is not None
            if socket.request.path == "/echo":
                async for key in socket:
                    await socket.send(key)
            while True:
                await socket.send(FRAME)
                await asyncio.sleep(0)  # or else nobody learns that the other side has gone
        except ConnectionClosed:
            return

    async def run() -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        async with serve(talk, HOST, 0, ssl=tls, **OPTIONS) as server:
            ready.send(server.sockets[0].getsockname()[1])
            await server.serve_forever()

    uvloop.run(run())


# --- the relay, as the web server runs it ---


def run_relay(ready: Connection, certificate: Path, source_port: int) -> None:
    keep_to(RELAY)
    prepare_django()
    import uvicorn

    from izvor_project.console.rfb import welcome
    from izvor_project.console.session import Browser, Session
    from izvor_project.management.commands.serve import SERVER
    from proxmox import Endpoint, Tls
    from proxmox.results import VncTicket
    from proxmox.screen import open_screen

    context = Tls.from_ca_file(certificate).context()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        """What `izvor_project.console.relay` does once the ticket is used up and Proxmox asked."""
        await receive()
        await send({"type": "websocket.accept"})
        ticket = VncTicket(
            ticket="",
            port=5900,
            password="",
            user="",
            endpoint=Endpoint(HOST, source_port),
            address=HOST,
            path=scope["path"],
            headers={},
        )
        screen = await open_screen(ticket, context, timeout_s=5)
        browser = Browser(receive, send)
        await welcome(browser.reader, browser.write)
        await Session(browser, screen, is_allowed).run()
        await screen.close()

    async def is_allowed() -> bool:
        return True

    config = uvicorn.Config(app, host=HOST, port=0, **SERVER)
    server = uvicorn.Server(config)

    async def run() -> None:
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        ready.send(server.servers[0].sockets[0].getsockname()[1])
        await serving

    uvloop.run(run())


def prepare_django() -> None:
    """The settings without any server of ours: nothing is connected to."""
    for name, value in {
        "DJANGO_SETTINGS_MODULE": "izvor_project.settings",
        "IZVOR_SECRET_KEY": "unused",
        "DATABASE_URL": "postgres://unused/unused",
        "REDIS_URL": "redis://unused",
        "IZVOR_LOG_LEVEL": "ERROR",
    }.items():
        os.environ[name] = value
    import django

    django.setup()


# --- processes and certificates ---

ENDS, RELAY = 0, 1


def keep_to(place: int) -> set[int]:
    """Run this process on one core, where there are several; gives those that it had."""
    had = os.sched_getaffinity(0)
    if len(had) > 1:
        os.sched_setaffinity(0, {sorted(had)[place]})
    return had


@contextmanager
def started(run: Callable[..., None], *arguments: object) -> Iterator[int]:
    """A process for the length of the block; gives the port that it listens on."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=run, args=(there, *arguments), daemon=True)
    process.start()
    try:
        if not here.poll(30):
            raise TimeoutError("a process of the benchmark did not start")
        yield here.recv()
    finally:
        process.terminate()
        process.join(5)


def make_certificate(folder: Path) -> Path:
    """One for HOST that signs itself, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "benchmark")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return file


if __name__ == "__main__":
    main()
