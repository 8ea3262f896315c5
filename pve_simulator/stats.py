"""Numbers about guests, nodes and storages, and the list that lags behind.

Usage numbers are made up but steady: they depend on the VMID and the moment only. The rows of
`/cluster/resources` are what the last cycle of the statistics daemon saw (ten simulated seconds);
`lock` and `tags` in them are current.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import drives
from .text import words
from .world import GIB, MIB, Guest, Node, Storage

if TYPE_CHECKING:
    from .simulator import Simulator

SILENT_AFTER_S = 300.0
BOOT_S = 12.5
REFRESH_COST_FACTOR = 19
"""A cycle rests at least this many times as long as it worked, so that big worlds stay quick."""
Row = dict[str, Any]


def agent_is_up(sim: Simulator, guest: Guest) -> bool:
    """The guest agent answers: an OS that was installed, has booted and is not paused."""
    if not guest.is_running or guest.is_paused or guest.is_agent_dead:
        return False
    if not drives.is_agent_enabled(guest.running_config) or not has_system(sim, guest):
        return False
    return sim.clock.elapsed(guest.os_started_at) >= BOOT_S


def has_system(sim: Simulator, guest: Guest) -> bool:
    disk = drives.boot_disk(guest.config)
    volume = sim.world.find_volume(disk.file, guest.node) if disk else None
    return volume is not None and volume.system == "linux"


def cpu_load(sim: Simulator, guest: Guest) -> float:
    if not guest.is_running or guest.is_paused:
        return 0.0
    wave = math.sin(sim.clock.now() / 47 + guest.vmid * 1.7)
    return round(0.02 + 0.06 * (1 + wave) + (guest.vmid % 7) * 0.02, 12)


def memory_used(sim: Simulator, guest: Guest) -> int:
    if not guest.is_running:
        return 0
    share = 0.25 + (guest.vmid % 11) * 0.03 + 0.02 * math.sin(sim.clock.now() / 101 + guest.vmid)
    return int(drives.memory_mib(guest.running_config) * MIB * share)


def traffic(sim: Simulator, guest: Guest, factor: int) -> int:
    """A counter that grows from the start of the guest on."""
    if not guest.is_running:
        return 0
    return int(sim.clock.elapsed(guest.booted_at) * (100 + guest.vmid % 50) * factor)


def uptime(sim: Simulator, guest: Guest) -> int:
    return max(0, int(sim.clock.now() - guest.booted_at)) if guest.is_running else 0


def guest_row(sim: Simulator, guest: Guest) -> Row:
    """A guest as the VM list of its node shows it."""
    config = guest.running_config if guest.is_running else guest.config
    row: Row = {
        "vmid": guest.vmid,
        "name": guest.name,
        "status": "running" if guest.is_running else "stopped",
        "cpus": drives.cpu_count(config),
        "cpu": cpu_load(sim, guest),
        "maxmem": drives.memory_mib(config) * MIB,
        "mem": memory_used(sim, guest),
        "maxdisk": drives.drive_size(drives.boot_disk(guest.config)),
        "disk": 0,
        "netin": traffic(sim, guest, 3),
        "netout": traffic(sim, guest, 1),
        "uptime": uptime(sim, guest),
    }
    if guest.is_running:
        row["pid"] = guest.pid
    for key in ("lock", "tags"):
        if guest.config.get(key):
            row[key] = guest.config[key]
    if guest.is_template:
        row["template"] = 1
    if any(key.startswith("serial") for key in guest.config):
        row["serial"] = 1
    return row


def resource_row(sim: Simulator, guest: Guest) -> Row:
    """A guest as `/cluster/resources` shows it, without `lock`, `tags`, `pool` and HA state."""
    listed = guest_row(sim, guest)
    return {
        "id": f"qemu/{guest.vmid}",
        "type": "qemu",
        "vmid": guest.vmid,
        "node": guest.node,
        "name": listed["name"],
        "status": listed["status"],
        "template": int(guest.is_template),
        "maxcpu": listed["cpus"],
        "cpu": listed["cpu"],
        "maxmem": listed["maxmem"],
        "mem": listed["mem"],
        "maxdisk": listed["maxdisk"],
        "disk": 0,
        "diskread": traffic(sim, guest, 40),
        "diskwrite": traffic(sim, guest, 25),
        "netin": listed["netin"],
        "netout": listed["netout"],
        "uptime": listed["uptime"],
    }


def node_load(sim: Simulator, node: Node) -> float:
    wave = math.sin(sim.clock.now() / 61 + node.nodeid)
    return round(0.08 + 0.05 * (1 + wave), 12)


def node_memory_used(sim: Simulator, node: Node) -> int:
    used = sum(
        drives.memory_mib(guest.running_config) * MIB // 2
        for guest in sim.guests_on(node.name)
        if guest.is_running
    )
    return min(node.memory - GIB // 2, 2 * GIB + used)


def node_row(sim: Simulator, node: Node) -> Row:
    row: Row = {
        "id": f"node/{node.name}",
        "type": "node",
        "node": node.name,
        "level": "",
        "status": "online" if node.is_online else "offline",
    }
    if node.is_online:
        row |= {
            "maxcpu": node.cpus,
            "cpu": node_load(sim, node),
            "maxmem": node.memory,
            "mem": node_memory_used(sim, node),
            "maxdisk": node.root_size,
            "disk": node.root_used,
            "uptime": int(sim.clock.now() - node.booted_at),
        }
    return row


def storage_is_active(storage: Storage, node: str) -> bool:
    return storage.is_enabled and node not in storage.offline_nodes


@dataclass(slots=True)
class _Report:
    """What a node last said of a guest: the row, as JSON too (without its closing brace)."""

    row: Row
    text: str


class ResourceCache:
    """What the statistics daemons reported last; they report node by node, once a cycle."""

    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._guests: dict[int, _Report] = {}
        self._nodes: dict[str, Row] = {}
        self._used: dict[tuple[str, str], int] = {}

    def refresh(self) -> None:
        """One cycle of all nodes at once."""
        for node in list(self._sim.world.nodes):
            self._refresh_node(node)

    async def refresh_for_ever(self) -> None:
        while True:
            await self._sim.clock.sleep(self._sim.options.cycle_s)
            began = time.monotonic()
            for node in list(self._sim.world.nodes):
                self._refresh_node(node)
                await asyncio.sleep(0)
            await asyncio.sleep(REFRESH_COST_FACTOR * (time.monotonic() - began))

    def _refresh_node(self, name: str) -> None:
        sim = self._sim
        node = sim.world.nodes[name]
        self._nodes[name] = node_row(sim, node)
        if not node.is_online:
            return
        for vmid in [v for v in self._guests if v not in sim.world.guests]:
            del self._guests[vmid]
        for guest in sim.guests_on(name):
            row = resource_row(sim, guest)
            text = json.dumps(row, separators=(",", ":"))[:-1]
            self._guests[guest.vmid] = _Report(row, text)
        for storage in sim.world.storages_of(name):
            key = (storage.name, "" if storage.shared else name)
            self._used[key] = sim.world.used_bytes(storage, name)

    def used_bytes(self, storage: Storage, node: str) -> int:
        """As of the last cycle."""
        key = (storage.name, "" if storage.shared else node)
        if key not in self._used:
            self._used[key] = self._sim.world.used_bytes(storage, node)
        return self._used[key]

    def guest_json(self, guest: Guest) -> str:
        """The guest's row as JSON text: stale numbers, current lock and tags."""
        extra = self._current(guest)
        text = self._stale(guest)
        if not extra:
            return text + "}"
        return f"{text},{json.dumps(extra, separators=(',', ':'))[1:]}"

    def _current(self, guest: Guest) -> Row:
        world = self._sim.world
        extra = {key: guest.config[key] for key in ("lock", "tags") if guest.config.get(key)}
        for pool in world.pools.values():
            if guest.vmid in pool.vms:
                extra["pool"] = pool.name
        if guest.vmid in world.ha:
            extra["hastate"] = world.ha[guest.vmid].state
        return extra

    def _stale(self, guest: Guest) -> str:
        if not self._sim.options.is_lagging and self._sim.world.nodes[guest.node].is_online:
            return json.dumps(resource_row(self._sim, guest), separators=(",", ":"))[:-1]
        report = self._guests.get(guest.vmid)
        if report is None or self._is_silent(guest.node):
            row = {"id": f"qemu/{guest.vmid}", "type": "qemu", "vmid": guest.vmid}
            row |= {"node": guest.node, "status": "unknown"}
            return json.dumps(row, separators=(",", ":"))[:-1]
        if report.row["node"] != guest.node:
            return json.dumps(report.row | {"node": guest.node}, separators=(",", ":"))[:-1]
        return report.text

    def _is_silent(self, node_name: str) -> bool:
        since = self._sim.world.nodes[node_name].silent_since
        return since is not None and self._sim.clock.elapsed(since) >= SILENT_AFTER_S

    def node(self, node: Node) -> Row:
        """The node's row; that it is offline is known at once."""
        if not self._sim.options.is_lagging or not node.is_online:
            return node_row(self._sim, node)
        return dict(self._nodes.get(node.name) or node_row(self._sim, node)) | {"status": "online"}


def live_details(sim: Simulator, guest: Guest) -> Row:
    """What only a running guest's monitor tells."""
    memory = drives.memory_mib(guest.running_config) * MIB
    has_agent = agent_is_up(sim, guest)
    nics = sorted(key for key in guest.running_config if drives.NET.match(key))
    details: Row = {
        "balloon": memory,
        "ballooninfo": {"actual": memory, "max_mem": memory},
        "blockstat": {d.key: _block_counters(sim, guest) for d in drives.drives_of(guest.config)},
        "diskread": traffic(sim, guest, 40),
        "diskwrite": traffic(sim, guest, 25),
        "nics": {
            f"tap{guest.vmid}i{key.removeprefix('net')}": {
                "netin": traffic(sim, guest, 3),
                "netout": traffic(sim, guest, 1),
            }
            for key in nics
        },
        "proxmox-support": {
            "backup-max-workers": True,
            "pbs-dirty-bitmap": True,
            "pbs-dirty-bitmap-migration": True,
            "pbs-dirty-bitmap-savevm": True,
            "pbs-library-version": "1.4.1",
            "pbs-masterkey": True,
            "query-bitmap-info": True,
        },
        "qmpstatus": "paused" if guest.is_paused else "running",
        "running-machine": "pc-i440fx-7.2+pve0",
        "running-qemu": "7.2.22",
    }
    if has_agent:
        free = memory - memory_used(sim, guest)
        details["freemem"] = free
        details["ballooninfo"] |= {
            "free_mem": free,
            "total_mem": memory * 8 // 10,
            "last_update": int(sim.clock.now()),
            "major_page_faults": 0,
            "minor_page_faults": 4005,
            "mem_swapped_in": 0,
            "mem_swapped_out": 0,
        }
    return details


_BLOCK_COUNTERS = words(
    "failed_flush_operations failed_rd_operations failed_unmap_operations failed_wr_operations",
    "flush_operations flush_total_time_ns invalid_flush_operations invalid_rd_operations",
    "invalid_unmap_operations invalid_wr_operations rd_merged rd_total_time_ns unmap_bytes",
    "unmap_merged unmap_operations unmap_total_time_ns wr_highest_offset wr_merged",
    "wr_total_time_ns",
)


def _block_counters(sim: Simulator, guest: Guest) -> Row:
    read, written = traffic(sim, guest, 40), traffic(sim, guest, 25)
    counters: Row = dict.fromkeys(_BLOCK_COUNTERS, 0)
    counters |= {"account_failed": True, "account_invalid": True, "timed_stats": []}
    counters |= {"rd_bytes": read, "rd_operations": read // 4096}
    return counters | {"wr_bytes": written, "wr_operations": written // 4096}
