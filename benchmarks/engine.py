"""A cluster of its own for a row that measures the engine, with the worker and beat at work."""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.children import Child
from launcher.ports import remembered_port
from launcher.probes import tls_answers
from launcher.services import ROOT
from tests.simulator.measure import Caller as Direct
from tests.stack import Part

if TYPE_CHECKING:
    from benchmarks.site import Site
    from clusters.models import Cluster

TOKEN_ID = "root@pam!izvor"  # noqa: S105  (its name, not its secret)
SECRET = "00000000-0000-4000-8000-000000000001"  # noqa: S105  (the simulator's own default)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Simulated:
    """A second simulator and the row that leads to it."""

    site: Site
    part: Part
    port: int
    ca_file: Path
    cluster: Cluster

    @cached_property
    def direct(self) -> Direct:
        """Proxmox's own API, without Izvor."""
        return Direct(f"https://127.0.0.1:{self.port}", self.ca_file)

    def calls(self) -> dict[tuple[str, str], int]:
        """How often the worker has called Proxmox, by method and path template."""
        address = f"http://127.0.0.1:{self.site.metrics_port}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            text = answer.read().decode()
        found: dict[tuple[str, str], int] = defaultdict(int)
        for line in text.splitlines():
            if line.startswith("izvor_proxmox_call_seconds_count{"):
                labels, value = line.split("{", 1)[1].rsplit("} ", 1)
                named = dict(part.split("=", 1) for part in labels.split('",'))
                key = (named["method"].strip('"'), named["path"].strip('"'))
                found[key] += int(float(value))
        return found


@contextmanager
def cluster_at_work(site: Site, name: str, *arguments: str) -> Iterator[Simulated]:
    """Started, looked at once, and the only one that the worker knows for the length of the
    block."""
    from clusters.models import Cluster

    folder = site.stack.state.folder(f"simulator-{name}")
    port = remembered_port(folder / "port", host="127.0.0.1", first=18106)
    ca_file = folder / "ca.pem"
    command = [*(sys.executable, "-m", "pve_simulator", "--port", str(port), *arguments)]
    child = Child(
        f"simulator-{name}",
        [*command, "--state", str(folder)],
        env={**site.stack.env, "PVE_SIMULATOR_TOKEN": f"{TOKEN_ID}={SECRET}"},
        cwd=ROOT,
        ready=lambda: tls_answers("127.0.0.1", port, ca_file=ca_file),
    )
    part = Part(child, site.stack.state.logs)
    part.start()
    try:
        part.wait_ready()
        cluster = register(name, port, ca_file)
        others = list(Cluster.objects.exclude(pk=cluster.pk).filter(is_enabled=True))
        Cluster.objects.filter(pk__in=[one.pk for one in others]).update(is_enabled=False)
        try:
            site.stack.start("worker-1", "beat")
            yield Simulated(site, part, port, ca_file, cluster)
        finally:
            for started in ("beat", "worker-1"):
                site.stack.parts[started].stop()
            Cluster.objects.filter(pk=cluster.pk).update(is_enabled=False)
            Cluster.objects.filter(pk__in=[one.pk for one in others]).update(is_enabled=True)
    finally:
        part.stop()


def register(name: str, port: int, ca_file: Path) -> Cluster:
    from accounts import crypto
    from clusters.connect import connect
    from clusters.models import SIMULATOR, Cluster
    from inventory.cycle import look_at
    from inventory.details import read_templates

    cluster = Cluster.objects.create(
        name=name,
        kind=SIMULATOR,
        endpoints=[f"https://127.0.0.1:{port}"],
        user="root@pam",
        token_id=TOKEN_ID,
        sealed_secret=crypto.seal(SECRET),
        ca_pem=ca_file.read_text(),
    )
    look_at(cluster, with_details=False)
    cluster.refresh_from_db()
    if not cluster.is_online:
        raise RuntimeError(f"cluster {name} is {cluster.state}: {cluster.error}")
    read_templates(cluster, connect(cluster))
    return cluster


def pids_of(part: Part) -> list[int]:
    """The process that does the work, and its children."""
    assert part.running is not None
    guard = part.running.guard.pid
    found, unread = [], children_of(guard)
    while unread:
        pid = unread.pop()
        found.append(pid)
        unread += children_of(pid)
    return found


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]


def cpu_seconds(part: Part) -> float:
    """Of processor time that it has used."""
    total = 0
    for pid in pids_of(part):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def wait_for(is_true: object, seconds: float, what: str, *, every_s: float = 0.25) -> None:
    """Until the call answers True."""
    assert callable(is_true)
    ends = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > ends:
            raise RuntimeError(f"{what} took longer than {seconds:.0f} s")
        time.sleep(every_s)
