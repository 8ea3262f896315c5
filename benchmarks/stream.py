"""Five hundred who listen to a hundred events a second: how late does each hear?"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from typing import TYPE_CHECKING

from benchmarks.row import Result, percentile, row, thirds

if TYPE_CHECKING:
    from benchmarks.site import Site

LISTENERS, PER_SECOND, SECONDS = 500, 100, 8
# The first moments are not counted: processes and caches are cold.
WARM_S = 2
SENT = re.compile(rb'"sent_at":([0-9.]+)')


@row("stream")
def stream(site: Site) -> list[Result]:
    """Events are written by transactions of their own, each in its moment."""
    token, port = site.operator, site.web
    heard_at, writer_lag = asyncio.run(listen(port, token))
    delays = [delay for _, delay in sorted(heard_at)]
    parts = thirds(delays)
    heard = len(delays) / (LISTENERS * PER_SECOND * (SECONDS - WARM_S))
    if heard < 0.999:
        raise RuntimeError(f"only {heard:.1%} of the events were heard")
    return [
        Result(
            "an event to 500 listeners, 100 events/s, p95",
            "–",
            [1000 * percentile(part, 95) for part in parts],
            250,
            at_least=False,
            unit="ms",
            details={
                "p50, ms": 1000 * percentile(sorted(delays), 50),
                "slowest, ms": 1000 * max(delays),
                "writer late, ms": 1000 * writer_lag,
            },
        )
    ]


async def listen(port: int, token: str) -> tuple[list[tuple[float, float]], float]:
    """When each event was sent and its seconds to each listener; and how late the last event was
    written."""
    delays: list[tuple[float, float]] = []
    has_begun = asyncio.Semaphore(0)
    listeners = [
        asyncio.create_task(one_listener(port, token, delays, has_begun)) for _ in range(LISTENERS)
    ]
    try:
        for _ in listeners:
            await asyncio.wait_for(has_begun.acquire(), 60)
        lag: list[float] = []
        writer = threading.Thread(target=lambda: lag.append(write_events()))
        writer.start()
        await asyncio.to_thread(writer.join)
        await asyncio.sleep(1.5)
        for listener in listeners:
            if listener.done():
                listener.result()
        return delays, lag[0]
    finally:
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*listeners, return_exceptions=True)


async def one_listener(
    port: int, token: str, delays: list[tuple[float, float]], has_begun: asyncio.Semaphore
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    begins = b""
    while b"\nid: " not in begins:
        chunk = await reader.read(65536)
        if not chunk:
            raise RuntimeError(f"the stream ended: {begins[:300]!r}")
        begins += chunk
    has_begun.release()
    rest = b""
    while chunk := await reader.read(1 << 20):
        now = time.time()
        *whole, rest = (rest + chunk).split(b"\n\n")
        for frame in whole:
            if sent := SENT.search(frame):
                delays.append((float(sent[1]), now - float(sent[1])))
    raise RuntimeError("the server hung up")


def write_events() -> float:
    """Returns how late the last was. Those of the first moments do not say when they were sent."""
    from django.db import connection

    from events.models import record_event

    began, late = time.monotonic(), 0.0
    for number in range(PER_SECOND * SECONDS):
        due = began + number / PER_SECOND
        late = time.monotonic() - due
        if late < 0:
            time.sleep(-late)
        counts = number >= PER_SECOND * WARM_S
        if counts:
            record_event("vm.changed_outside", by="bench", sent_at=time.time())
        else:
            record_event("vm.changed_outside", by="bench")
    connection.close()
    return max(0.0, late)
