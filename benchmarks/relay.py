"""The console's relay against the websocket behind it, as a row (see `benchmarks.console`)."""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.console import (
    ENDS,
    HOST,
    Way,
    keep_to,
    latency,
    make_certificate,
    run_relay,
    run_source,
    started,
    throughput,
)
from benchmarks.row import Result, row

if TYPE_CHECKING:
    from benchmarks.site import Site

ROUNDS, SECONDS, KEYS = 5, 1.0, 500


@row("console")
def console(site: Site) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        with (
            started(run_source, certificate) as source,
            started(run_relay, certificate, source) as relay,
        ):
            tls = ssl.create_default_context(cafile=str(certificate))
            direct = Way(f"wss://{HOST}:{source}", {"ssl": tls})
            relayed = Way(f"ws://{HOST}:{relay}", {})
            cores = keep_to(ENDS)
            try:
                speeds, added = asyncio.run(compare(direct, relayed))
            finally:
                os.sched_setaffinity(0, cores)
    floor = "the TLS websocket itself"
    return [
        Result("a console's throughput, 64 KiB frames", floor, speeds, 0.7, at_least=True),
        Result("a key there and back, added p50", floor, added, 0.5, at_least=False, unit="ms"),
    ]


async def compare(direct: Way, relayed: Way) -> tuple[list[float], list[float]]:
    """Ratios of throughputs, and milliseconds that a key takes longer."""
    for way in (direct, relayed):
        await throughput(way, 0.3)  # warm up
    speeds, added = [], []
    for _ in range(ROUNDS):
        floor = await throughput(direct, SECONDS)
        speeds.append(await throughput(relayed, SECONDS) / floor)
        quick = await latency(direct, KEYS)
        added.append(await latency(relayed, KEYS) - quick)
    return speeds, added
