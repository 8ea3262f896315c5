"""Five hundred listen while a hundred things happen each second, and each hears each of them.

Web process, writer and listeners are three processes, so that none is measured with another's work.
How late they hear is printed (`-s`), not asserted: other tests may run beside this one.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from django.db import connection

from accounts.actors import OPERATOR
from accounts.models import ApiToken
from tests.launcher.conftest import free_port
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]

LISTENERS, PER_SECOND, SECONDS, ROUNDS = 500, 100, 10, 1
TOTAL = PER_SECOND * SECONDS
# All count what they hear; so many also look when each event was sent.
TIMED = 50
_SENT = re.compile(rb'"sent":([0-9.]+)')
_WRITER = f"""
import sys, time, django
django.setup()
from events.models import record_event
print("ready", flush=True)
while sys.stdin.readline():
    begin = time.monotonic()
    for number in range({TOTAL}):
        time.sleep(max(0.0, begin + number / {PER_SECOND} - time.monotonic()))
        record_event("vm.protection_changed", by="load", sent=time.time())
"""


@pytest.fixture
def env() -> dict[str, str]:
    """For processes on the test's database."""
    database = urlsplit(os.environ["DATABASE_URL"])
    name = connection.settings_dict["NAME"]
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database._replace(path=f"/{name}").geturl(),
        "IZVOR_PORT": str(free_port()),
        "IZVOR_RATE_REQUESTS": "0",
    }


@pytest.fixture
def served(project, env, tmp_path: Path) -> Iterator[str]:
    url = f"http://127.0.0.1:{env['IZVOR_PORT']}"
    with (tmp_path / "web.log").open("wb") as log:
        web = subprocess.Popen([sys.executable, "manage.py", "serve"], env=env, stderr=log)
    try:
        wait_until(lambda: answers(url), "the web process's start", 60)
        yield url
    finally:
        web.terminate()
        web.wait(20)


@pytest.fixture
def writer(env) -> Iterator[subprocess.Popen[bytes]]:
    """Writes when it is told to."""
    command = [sys.executable, "-c", _WRITER]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health/live", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


class Listener:
    """One connection. With `delays` it looks when each event was sent."""

    def __init__(self, is_timed: bool) -> None:
        self.delays: list[float] | None = [] if is_timed else None
        self._rest = b""

    async def join(self, port: int, token: str) -> None:
        self._reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(
            f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        await self._reader.readuntil(b"id: ")

    async def hear_all(self) -> int:
        """Returns how many events it heard in one round."""
        heard = 0
        while heard < TOTAL:
            piece = await self._reader.read(262_144)
            assert piece, "cut off"
            now = time.time()
            self._rest += piece
            end = self._rest.rfind(b"\n\n")
            if end < 0:
                continue
            heard += self._rest.count(b"\nevent: ", 0, end)
            if self.delays is not None:
                self.delays += [now - float(sent) for sent in _SENT.findall(self._rest, 0, end)]
            self._rest = self._rest[end:]
        return heard


async def measure(port: int, token: str, writer: subprocess.Popen[bytes]) -> None:
    listeners = [Listener(n < TIMED) for n in range(LISTENERS)]
    await asyncio.wait_for(asyncio.gather(*(one.join(port, token) for one in listeners)), 60)
    for _ in range(ROUNDS):
        assert writer.stdin is not None
        writer.stdin.write(b"go\n")
        writer.stdin.flush()
        heard = await asyncio.wait_for(asyncio.gather(*(one.hear_all() for one in listeners)), 60)
        assert heard == [TOTAL] * LISTENERS
        delays = sorted(delay for one in listeners for delay in one.delays or [])
        assert len(delays) == TOTAL * TIMED
        p50, p95 = (delays[int(len(delays) * part)] for part in (0.5, 0.95))
        print(f"p50 {p50:.3f} s, p95 {p95:.3f} s, the last {delays[-1]:.3f} s")
        for one in listeners[:TIMED]:
            one.delays = []
    for one in listeners:
        one.writer.close()


def test_five_hundred_hear_a_hundred_events_a_second(served, writer, project):
    _, token = ApiToken.objects.issue(name="load", project=project, role=OPERATOR)
    port = urlsplit(served).port
    assert port is not None
    asyncio.run(measure(port, token, writer))
