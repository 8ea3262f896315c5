"""Creations: how fast they are accepted, how near a thousand come to the cluster's own limit, and
what each asks of Proxmox."""

from __future__ import annotations

import itertools
import json
import re
import statistics
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.engine import Simulated, cluster_at_work, wait_for
from benchmarks.load import Caller, at_once, times_ms
from benchmarks.outstanding import follow
from benchmarks.row import Result, percentile, row
from pve_simulator.clone import FORK_REAL_S, PREPARE_S
from pve_simulator.power import START_S
from pve_simulator.world import Storage

if TYPE_CHECKING:
    from benchmarks.site import Site

CREATIONS, SPEED, NODES = 1_000, 2.0, 10
# Of a linked clone on shared storage: its disk's and its cloud-init drive's, one after the other.
ALLOCATIONS = 2
# How many times the ideal schedule is waited for.
PATIENCE = 1.4
BUSY, ROUNDS, SECONDS = 500, 3, 4.0
# What a hundred a second come to that take a tenth of a second each.
AT_ONCE = 10
ASKED = {"template": "ubuntu-22.04", "size": "small", "linked": True}


def nodes(count: int) -> str:
    return ",".join(f"node{number}" for number in range(1, count + 1))


@row("accept")
def accept(site: Site) -> list[Result]:
    """All that is accepted runs, too, as on any day: at first into the storage's lane."""
    arguments = ("--vms", str(BUSY * 4), "--nodes", nodes(NODES), "--speed", "0.01")
    with cluster_at_work(site, "busy", *arguments) as simulated:
        stopped = list(simulated.cluster.vms.filter(power="stopped").order_by("vmid"))
        follow(simulated, "start_vm", "start", stopped[:BUSY])
        callers = [Caller(site.web, site.operator) for _ in range(AT_ONCE)]
        floor = times_ms(lambda: callers[0].get("nothing"), 100)
        taken = create_at_once(callers, (1 + ROUNDS) * SECONDS)
        # Not the first: all begin in the same moment, and Postgres plans for each connection.
        rounds = [
            sorted(ms for ended_s, ms in taken if ended_s // SECONDS == number)
            for number in range(1, 1 + ROUNDS)
        ]
        running = simulated.cluster.operations.filter(state="running", kind="start_vm").count()
    if running < BUSY:
        raise RuntimeError(f"only {running} operations ran to the end")
    empty = percentile(floor, 50)
    return [
        Result(
            f"POST /vms accepted while {BUSY} operations run, p99",
            f"an empty answer, p50 {empty:.3g} ms",
            [percentile(ms, 99) for ms in rounds],
            150,
            at_least=False,
            unit="ms",
            details={"p50, ms": statistics.median(percentile(ms, 50) for ms in rounds)},
        ),
        Result(
            "the same, a second",
            f"{AT_ONCE} callers, each one after the other",
            [len(ms) / SECONDS for ms in rounds],
            100,
            at_least=True,
            unit="/s",
        ),
    ]


def create_at_once(callers: list[Caller], seconds: float) -> list[tuple[float, float]]:
    """Of each creation: when it was accepted, in seconds from the start, and the milliseconds that
    took."""
    start = time.perf_counter()
    taken = at_once([partial(create_for, seconds, start, caller) for caller in callers])
    return list(itertools.chain(*taken))


def create_for(seconds: float, start: float, caller: Caller) -> list[tuple[float, float]]:
    taken: list[tuple[float, float]] = []
    ended = start
    while ended < start + seconds:
        began = ended
        create(caller, "busy", "busy")
        ended = time.perf_counter()
        taken.append((ended - start, (ended - began) * 1000))
    return taken


def create(caller: Caller, name: str, cluster: str, **more: object) -> None:
    body = json.dumps({**ASKED, "name": name, "cluster": cluster, **more}).encode()
    status, answer = caller.call("POST", "vms", body)
    if status != 202:
        raise RuntimeError(f"POST /vms: {status} {answer[:300]!r}")


def ideal_s(count: int) -> float:
    """The simulator's own schedule: allocations on shared storage go one after the other."""
    held_s = count * ALLOCATIONS * Storage("ceph", "rbd", [], 0).allocate_s
    return FORK_REAL_S + (PREPARE_S + held_s + START_S) / SPEED


@row("creations")
def creations(site: Site) -> list[Result]:
    """Who is not done when the patience is over is left out, of the ideal schedule too."""
    from django.utils import timezone

    # Above 500 its nodes have memory for all of them.
    arguments = ("--vms", "501", "--nodes", nodes(NODES), "--speed", str(SPEED))
    with cluster_at_work(site, "many", *arguments) as simulated:
        operations = simulated.cluster.operations
        caller = Caller(site.web, site.operator)
        create(caller, "first", "many")
        wait_for(lambda: operations.filter(state="succeeded").exists(), 30, "a first creation")
        before, first_ended = simulated.calls(), timezone.now()
        began = time.time()
        for batch in range(CREATIONS // 100):
            create(caller, f"batch-{batch}", "many", count=100)
        accepted_s = time.time() - began
        done = operations.filter(state="succeeded", created_at__gte=first_ended)
        patience = began + PATIENCE * ideal_s(CREATIONS)
        while (count := done.count()) < CREATIONS and time.time() < patience:
            time.sleep(1)
        failed = operations.filter(ended_at__isnull=False).exclude(state="succeeded").first()
        if failed is not None:
            raise RuntimeError(f"{failed}: {failed.error}")
        ended_at = done.latest("ended_at").ended_at
        assert ended_at is not None
        took = ended_at.timestamp() - began
        calls = per_creation(before, simulated, count)
    ideal = ideal_s(count)
    return [
        Result(
            f"{CREATIONS} creations at once, {NODES} nodes, linked clones",
            "the simulator's own ideal schedule",
            [took / ideal],
            1.15,
            at_least=False,
            details={
                "done": count,
                "ideal, s": ideal,
                "this, s": took,
                "until all were accepted, s": accepted_s,
            },
        ),
        Result(
            "calls of Proxmox for each of them beyond the plan's own",
            "each step's look, act and look again",
            [beyond(calls)],
            2,
            at_least=False,
            unit="calls",
            details={where: count for where, count in calls.most_common(8) if count >= 0.05},
        ),
    ]


# What nobody asks for one creation: the poller's look, inventory's.
SHARED = re.compile(r"nodes/\{node\}/tasks$|nodes/\{node\}/(storage|network|status)|cluster/status")
# Clone, configure, grow, start: the configuration after a clone is the one that configuring looks
# at, and a start looks at configuration and status before and after.
ACTS, LOOKS = 4, 8


def per_creation(
    before: dict[tuple[str, str], int], simulated: Simulated, created: int
) -> Counter[str]:
    """Calls by method and path, for each creation."""
    found: Counter[str] = Counter()
    for (method, path), count in simulated.calls().items():
        more = count - before.get((method, path), 0)
        if more and not SHARED.search(path):
            found[f"{method} {path}"] = more / created  # type: ignore[assignment]
    return found


def beyond(calls: Counter[str]) -> float:
    return sum(calls.values()) - ACTS - LOOKS
