"""Resident memory of web, worker and beat with 10,000 VMs, against Django and Celery by
themselves."""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.engine import pids_of, wait_for
from benchmarks.load import Caller
from benchmarks.row import Result, row
from launcher.children import Child
from launcher.ports import remembered_port
from launcher.probes import http_answers
from launcher.services import ROOT
from tests.stack import Part

if TYPE_CHECKING:
    from benchmarks.site import Site

PAGES = 10


@row("memory")
def memory(site: Site) -> list[Result]:
    samples = own_site(site)
    site.pause_web()
    bare_samples = bare_site(site)
    own, bare = samples[-1], bare_samples[-1]
    return [
        Result(
            "resident memory of web, worker and beat, 10,000 VMs",
            "Django and Celery by themselves, same settings",
            [
                sum(one.values()) / sum(other.values())
                for one, other in zip(samples, bare_samples, strict=True)
            ],
            1.5,
            at_least=False,
            details={
                **{f"{name}, MiB": value for name, value in own.items()},
                **{f"{name}, MiB": value for name, value in bare.items()},
            },
        )
    ]


def own_site(site: Site) -> list[dict[str, float]]:
    """After everything was read through the API, and looked at by inventory."""
    from django.utils import timezone

    from clusters.models import Cluster

    parts = [site.stack.parts[name] for name in ("web", "worker-1", "beat")]
    site.pause_web()
    caller = Caller(site.web, site.operator)
    site.stack.start("worker-1", "beat")
    try:
        began = timezone.now()
        path = "vms?limit=1000&cluster=demo"
        for _ in range(PAGES):
            following = json.loads(caller.get(path))["next"]
            path = following.split("/api/v1/")[1] if following else path
        seen = Cluster.objects.filter(is_from_environment=True, seen_at__gt=began)
        wait_for(seen.exists, 60, "a look of inventory's at 10,000 VMs")
        return sampled(parts)
    finally:
        for name in ("beat", "worker-1"):
            site.stack.parts[name].stop()


def bare_site(site: Site) -> list[dict[str, float]]:
    from django.conf import settings

    env = dict(site.stack.env)
    env["BARE_BROKER_URL"] = settings.CELERY_BROKER_URL
    env["DJANGO_SETTINGS_MODULE"] = "benchmarks.bare.settings"
    folder = site.stack.state.folder("bare")
    port = remembered_port(folder / "port", host="127.0.0.1", first=18182)
    celery = [*(sys.executable, "-m", "celery", "-A", "benchmarks.bare.celery")]
    served = ["benchmarks.bare.asgi:application", "--port", str(port), "--no-access-log"]
    worker = [*celery, "worker", "--pool", "threads", "-c", "8", "-l", "INFO"]
    worker += ["--without-mingle", "--without-gossip", "-n", "bare@bench"]
    children = [
        Child(
            "bare-web",
            [sys.executable, "-m", "uvicorn", *served],
            env=env,
            cwd=ROOT,
            ready=lambda: http_answers("127.0.0.1", port, "/api/v1/count"),
        ),
        Child("bare-worker", worker, env=env, cwd=ROOT, ready_words=" ready."),
        Child(
            "bare-beat",
            [*celery, "beat", "-s", str(folder / "schedule")],
            env=env,
            cwd=ROOT,
        ),
    ]
    parts = [Part(child, site.stack.state.logs) for child in children]
    try:
        for part in parts:
            part.start()
            part.wait_ready()
        for _ in range(200):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/count", timeout=10):
                pass
        return sampled(parts)
    finally:
        for part in reversed(parts):
            part.stop()


def sampled(parts: list[Part]) -> list[dict[str, float]]:
    """MiB by part, three times, once they have settled."""
    samples = []
    for _ in range(3):
        time.sleep(3)
        samples.append({part.child.name: resident_mib(part) for part in parts})
    return samples


def resident_mib(part: Part) -> float:
    """What its processes hold in memory, what they share with each other counted once."""
    kib = 0
    for pid in pids_of(part):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                kib += int(line.split()[1])
    return kib / 1024
