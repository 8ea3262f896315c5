"""What inventory's look at ten thousand VMs costs, against reading the same list and no more."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.row import Result, row
from benchmarks.site import GUESTS, Site

ROUNDS = 5


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@row("cycle")
def cycle(site: Site) -> list[Result]:
    from benchmarks.rows import run
    from clusters.connect import connect
    from clusters.models import Cluster
    from inventory.cycle import CALL_S, look_at
    from izvor_project.garbage import keep_what_is_loaded

    # As a worker does.
    keep_what_is_loaded()
    cluster = Cluster.objects.get(is_from_environment=True)
    client = connect(cluster)
    look_at(cluster, with_details=False)
    run("VACUUM ANALYZE")
    if cluster.vms.count() != GUESTS:
        raise RuntimeError(f"{cluster.vms.count()} VMs found, not {GUESTS}")
    read, unchanged, changed = [], [], []
    for _ in range(ROUNDS):
        read.append(seconds(lambda: client.resources(timeout_s=CALL_S)))
        unchanged.append(seconds(lambda: look_at(cluster, with_details=False)))
        run(
            "UPDATE vms_virtualmachine SET name = name || '-other' "
            f"WHERE cluster_id = {cluster.pk} AND vmid % 100 = 0"
        )
        changed.append(seconds(lambda: look_at(cluster, with_details=False)))
    left = cluster.vms.filter(name__endswith="-other").count()
    if left:
        raise RuntimeError(f"{left} changes were not seen")
    return [
        Result(
            "a look at 10,000 VMs, nothing changed",
            "fetching and reading the same list",
            [mine / floor for floor, mine in zip(read, unchanged, strict=True)],
            2.0,
            at_least=False,
            details={"reading, s": statistics.median(read), "s": statistics.median(unchanged)},
        ),
        Result(
            "a look at 10,000 VMs, 1 % changed",
            "nothing changed",
            [mine / floor for floor, mine in zip(unchanged, changed, strict=True)],
            1.3,
            at_least=False,
            details={"s": statistics.median(changed)},
        ),
    ]
