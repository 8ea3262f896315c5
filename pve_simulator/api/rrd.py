"""rrddata: made-up but steady series of guests, nodes and storages."""

from __future__ import annotations

import math
import re
from typing import Any

from .. import drives, stats
from ..routing import Call, route
from ..world import MIB

STEPS_S = {"hour": 60, "day": 1800, "week": 10800, "month": 43200, "year": 604800}
POINTS = 70


def _moments(call: Call) -> list[int]:
    step = STEPS_S[str(call.params["timeframe"])]
    last = int(call.sim.clock.now()) // step * step
    return [last - step * index for index in range(POINTS - 1, -1, -1)]


def _wave(moment: int, seed: int) -> float:
    return (1 + math.sin(moment / 900 + seed)) / 2


@route("GET", "/nodes/{node}/qemu/{vmid}/rrddata")
async def guest_series(call: Call) -> Any:
    """Nothing before the guest was made, its sizes while it was off, everything while it ran."""
    guest = call.sim.world.guest(call.node, call.vmid)
    memory = drives.memory_mib(guest.config) * MIB
    since = guest.booted_at if guest.is_running else call.sim.clock.now()
    made = re.search(r"ctime=(\d+)", str(guest.config.get("meta", "")))
    made_at = int(made.group(1)) if made else 0
    rows: list[dict[str, Any]] = []
    for moment in _moments(call):
        row: dict[str, Any] = {"time": moment}
        if moment >= made_at:
            row |= {
                "maxcpu": drives.cpu_count(guest.config),
                "maxmem": memory,
                "maxdisk": drives.drive_size(drives.boot_disk(guest.config)),
                "disk": 0,
            }
        if moment >= since:
            wave = _wave(moment, guest.vmid)
            row |= {
                "cpu": 0.02 + 0.2 * wave,
                "mem": memory * (0.3 + 0.2 * wave),
                "netin": 2000 * wave,
                "netout": 800 * wave,
                "diskread": 4000 * wave,
                "diskwrite": 9000 * wave,
            }
        rows.append(row)
    return rows


@route("GET", "/nodes/{node}/rrddata")
async def node_series(call: Call) -> Any:
    node = call.sim.world.node(call.node)
    used = stats.node_memory_used(call.sim, node)
    rows: list[dict[str, Any]] = []
    for moment in _moments(call):
        row: dict[str, Any] = {"time": moment}
        if moment >= node.booted_at:
            wave = _wave(moment, node.nodeid)
            row |= {
                "maxcpu": node.cpus,
                "cpu": 0.05 + 0.2 * wave,
                "iowait": 0.001 * wave,
                "loadavg": node.cpus * 0.1 * wave,
                "memtotal": node.memory,
                "memused": used * (0.9 + 0.1 * wave),
                "swaptotal": 0,
                "swapused": 0,
                "roottotal": node.root_size,
                "rootused": node.root_used,
                "netin": 20000 * wave,
                "netout": 8000 * wave,
            }
        rows.append(row)
    return rows


@route("GET", "/nodes/{node}/storage/{storage}/rrddata")
async def storage_series(call: Call) -> Any:
    storage = call.sim.world.storage_on(str(call.params["storage"]), call.node)
    node = call.sim.world.node(call.node)
    used = call.sim.world.used_bytes(storage, call.node)
    return [
        {"time": moment, "total": storage.size, "used": used}
        if moment >= node.booted_at
        else {"time": moment}
        for moment in _moments(call)
    ]
