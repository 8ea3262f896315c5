"""Two thousand Proxmox tasks outstanding: how soon an operation goes on, and what waiting costs.

The simulator is slowed down, so that each task lasts as long as is needed: most outlast the row,
and two hundred end one after the other while the others run on.
"""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING, Any

from benchmarks.engine import Simulated, cluster_at_work, cpu_seconds, wait_for
from benchmarks.row import Result, percentile, row, thirds
from pve_simulator.power import PAUSE_S, START_S

if TYPE_CHECKING:
    from benchmarks.site import Site

SPEED = 0.01
OUTSTANDING, ENDING = 2_000, 200
# A task's end is known to the simulator's clock; the ends come this far apart.
APART_S = 0.06


@row("outstanding")
def outstanding(site: Site) -> list[Result]:
    nodes = ",".join(f"node{number}" for number in range(1, 21))
    with cluster_at_work(
        site, "slow", "--vms", "8000", "--nodes", nodes, "--speed", str(SPEED)
    ) as simulated:
        stopped = list(simulated.cluster.vms.filter(power="stopped").order_by("vmid"))
        running = list(simulated.cluster.vms.filter(power="running").order_by("vmid"))
        running = choose_running(running)
        learn_who_they_are(simulated, running)
        follow(simulated, "start_vm", "start", stopped[: OUTSTANDING - ENDING])
        ends = []
        began = time.monotonic()
        for number, vm in enumerate(running):
            time.sleep(max(0.0, began + number * APART_S - time.monotonic()))
            ends.append((follow(simulated, "suspend_vm", "suspend", [vm])[0], ends_at(PAUSE_S)))
        first = min(moment for _, moment in ends)
        spare = first - time.time() - 1
        shares = [share_of_a_core(simulated, spare / 3) for _ in range(3)] if spare > 3 else []
        if not shares:
            raise RuntimeError("the first task ended before the last was asked for")
        delays = delays_of(ends)
    parts = thirds(delays)
    return [
        Result(
            "end of a Proxmox task to its operation's, p50 of 200, 2,000 outstanding",
            "poll interval 1 s",
            [percentile(part, 50) for part in parts],
            0.7,
            at_least=False,
            unit="s",
            details={"fastest": min(delays)},
        ),
        Result(
            "the same, p95",
            "poll interval 1 s",
            [percentile(part, 95) for part in parts],
            1.2,
            at_least=False,
            unit="s",
            details={"slowest": max(delays)},
        ),
        Result(
            "the worker's processor time while 2,000 tasks are outstanding",
            "one core",
            [100 * share for share in shares],
            10,
            at_least=False,
            unit="%",
            details={"s each": spare / 3},
        ),
    ]


def share_of_a_core(simulated: Simulated, seconds: float) -> float:
    worker = simulated.site.stack.parts["worker-1"]
    before, began = cpu_seconds(worker), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(worker) - before) / (time.monotonic() - began)


def choose_running(known: list[Any]) -> list[Any]:
    """The list calls a paused guest running: those which are."""
    return [vm for vm in known if (vm.vmid - 100) % 8 != 5][:ENDING]


def learn_who_they_are(simulated: Simulated, vms: list[Any]) -> None:
    """As accepting an operation does."""
    from clusters.connect import connect
    from vms.models import VirtualMachine

    client = connect(simulated.cluster)
    for vm in vms:
        vm.smbios_uuid = client.guest_config(vm.node, vm.vmid).smbios_uuid
    VirtualMachine.objects.bulk_update(vms, ["smbios_uuid"])


def ends_at(simulated_s: float) -> float:
    """When a task ends that was asked for just now."""
    return time.time() + simulated_s / SPEED


def follow(simulated: Simulated, kind: str, verb: str, vms: list[Any]) -> list[int]:
    """Start the tasks in Proxmox, and write down operations as they are while one runs: by hand,
    since to have two thousand accepted and submitted is not what is measured here."""
    from django.db.models.functions import Now

    from operations.models import RUNNING, Operation
    from operations.poller import BACKSTOP_S
    from operations.queue import send

    rows = []
    for vm in vms:
        path = f"/nodes/{vm.node}/qemu/{vm.vmid}/status/{verb}"
        upid = simulated.direct.act(path)
        rows.append(
            Operation(
                kind=kind,
                cluster=simulated.cluster,
                subject=vm.uuid,
                subject_label=str(vm),
                by="token:bench",
                state=RUNNING,
                step=verb,
                params={},
                upid=upid,
                started_at=Now(),
                step_started_at=Now(),
                submitted_at=Now(),
                attempts=1,
                due_at=Now() + datetime.timedelta(seconds=BACKSTOP_S),
            )
        )
    made = Operation.objects.bulk_create(rows)
    send("operations.poll", simulated.cluster.pk)
    return [operation.pk for operation in made]


def delays_of(ends: list[tuple[int, float]]) -> list[float]:
    """Seconds from each task's end to its operation's, in the order of the ends."""
    from operations.models import SUCCEEDED, Operation

    moments = dict(ends)
    mine = Operation.objects.filter(pk__in=moments)
    last = max(moments.values())
    patience_s = max(0.0, last - time.time()) + 30
    wait_for(lambda: mine.filter(ended_at=None).count() == 0, patience_s, "operations", every_s=0.5)
    failed = mine.exclude(state=SUCCEEDED).first()
    if failed is not None:
        raise RuntimeError(f"{failed}: {failed.error}")
    ended = {pk: at.timestamp() for pk, at in mine.values_list("pk", "ended_at") if at}
    return [ended[pk] - moment for pk, moment in ends]


assert START_S > 4 * PAUSE_S, "the others outlast those that end"
