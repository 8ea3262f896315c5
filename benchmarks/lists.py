"""What reading costs: lists of VMs, single VMs, tasks and sizes."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from functools import partial

import orjson
import psycopg

from benchmarks.load import Caller, per_second, per_second_of_many, times_ms
from benchmarks.row import Result, in_turn, row
from benchmarks.site import Site

# Short ones, often: a machine that others share is another one from second to second.
ROUNDS, SECONDS, AT_ONCE = 13, 0.3, 4


def against_nothing(site: Site, what: str, path: str, goal: float) -> Result:
    """Requests a second of `path`, as a part of those of an empty answer on the same server."""
    callers = [site.caller(10_000) for _ in range(AT_ONCE)]

    def asked(where: str) -> Callable[[], float]:
        calls: list[Callable[[], object]] = [partial(one.get, where) for one in callers]
        return lambda: per_second_of_many(calls, SECONDS)

    pairs = in_turn(ROUNDS, asked("nothing"), asked(path))
    for one in callers:
        one.close()
    return Result(
        what,
        "an empty answer to the same token, requests/s",
        [figure / floor for floor, figure in pairs],
        goal,
        at_least=True,
        details={
            "empty": statistics.median(floor for floor, _ in pairs),
            "this": statistics.median(figure for _, figure in pairs),
        },
    )


@row("list-100")
def list_hundred(site: Site) -> list[Result]:
    return [against_nothing(site, "list 100 of 10,000 VMs", "vms?limit=100", 0.5)]


@row("list-1000")
def list_thousand(site: Site) -> list[Result]:
    caller = site.caller(10_000)
    size = len(json.loads(caller.get("vms?limit=1000"))["vms"])
    if size != 1000:
        raise RuntimeError(f"{size} VMs listed")
    with psycopg.connect(site.stack.env["DATABASE_URL"], row_factory=psycopg.rows.dict_row) as to:
        pairs = in_turn(
            ROUNDS,
            lambda: 1000 * per_second(lambda: dump_rows(to), SECONDS),
            lambda: 1000 * per_second(lambda: caller.get("vms?limit=1000"), SECONDS),
        )
    caller.close()
    return [
        Result(
            "list 1,000 of 10,000 VMs",
            "the same rows by psycopg and orjson in a loop, documents/s",
            [figure / floor for floor, figure in pairs],
            0.6,
            at_least=True,
            details={
                "loop": statistics.median(floor for floor, _ in pairs),
                "this": statistics.median(figure for _, figure in pairs),
            },
        )
    ]


SAME_ROWS = """
SELECT vm.vmid, vm.uuid, cluster.name AS cluster, vm.node, project.name AS project, vm.name,
    vm.description, vm.tags, vm.metadata, vm.status, vm.template_name, vm.os_type, vm.os_template,
    size.name AS size, vm.cores, vm.memory_mib, vm.disk_bytes, host(vm.ip_address) AS ip_address,
    host(vm.ipv6_address) AS ipv6_address, vm.mac_address, vm.network, vm.cloud_init,
    usage.cpu_percent, usage.memory_used_bytes, usage.disk_read_bytes, usage.disk_write_bytes,
    usage.net_in_bytes, usage.net_out_bytes, usage.uptime_s, vm.is_protected, vm.task,
    vm.last_error, vm.created_at, vm.updated_at, vm.synced_at, cluster.seen_at, cluster.state
FROM vms_virtualmachine vm
JOIN clusters_cluster cluster ON cluster.id = vm.cluster_id
JOIN accounts_project project ON project.id = vm.project_id
LEFT JOIN vms_size size ON size.id = vm.size_id
LEFT JOIN vms_vmusage usage ON usage.vm_id = vm.id
WHERE project.name = 'owner-of-10000' AND vm.deleted_at IS NULL
ORDER BY vm.id LIMIT 1000
"""


def dump_rows(to: psycopg.Connection[dict[str, object]]) -> bytes:
    return orjson.dumps({"vms": to.execute(SAME_ROWS).fetchall()})


@row("list-growth")
def list_growth(site: Site) -> list[Result]:
    small, large = site.caller(1_000), site.caller(100_000)

    def p50_of(caller: Caller) -> Callable[[], float]:
        return lambda: statistics.median(times_ms(lambda: caller.get("vms?limit=100"), 40))

    pairs = in_turn(ROUNDS, p50_of(small), p50_of(large))
    for caller in (small, large):
        caller.close()
    return [
        Result(
            "list 100 of 100,000 VMs, p50",
            "100 of 1,000",
            [figure / floor for floor, figure in pairs],
            1.3,
            at_least=False,
            details={
                "ms of 1,000": statistics.median(floor for floor, _ in pairs),
                "ms of 100,000": statistics.median(figure for _, figure in pairs),
            },
        )
    ]


@row("reads")
def small_reads(site: Site) -> list[Result]:
    caller = site.caller(10_000)
    uuid = json.loads(caller.get("vms?limit=1"))["vms"][0]["uuid"]
    caller.close()
    return [
        against_nothing(site, what, path, 0.7)
        for what, path in (
            ("get one VM, by uuid", f"vms/{uuid}"),
            ("get one VM, by VMID and cluster", "vms/1000500?cluster=of-10000"),
            ("list 20 of 1,000 tasks", "tasks?limit=20"),
            ("list the sizes", "sizes"),
        )
    ]
