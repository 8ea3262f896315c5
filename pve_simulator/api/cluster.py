"""/cluster: resources, status, nextid, tasks, options, HA, SDN."""

from __future__ import annotations

import json
from typing import Any

from .. import stats
from ..errors import bad_parameter
from ..routing import Call, route
from .tasks import cluster_row, is_own

CLUSTER_TASKS = 25


@route("GET", "/cluster")
async def index(_call: Call) -> Any:
    names = ("replication", "config", "ha", "backup", "resources", "nextid", "status", "tasks")
    return [{"name": name} for name in names]


@route("GET", "/cluster/resources")
async def resources(call: Call) -> Any:
    wanted = call.params.get("type")
    rows: list[str] = []
    dump = json.dumps
    if wanted in (None, "vm"):
        rows += _guests(call)
    if wanted in (None, "node"):
        cache = call.sim.cache
        rows += [
            dump(cache.node(node) | {"cgroup-mode": 2})
            for node in call.sim.world.nodes.values()
            if call.may(f"/nodes/{node.name}", "Sys.Audit")
        ]
    if wanted in (None, "storage"):
        rows += [dump(row) for row in _storages(call)]
    if wanted in (None, "sdn"):
        rows += [
            dump(
                {
                    "id": f"sdn/{name}/localnetwork",
                    "type": "sdn",
                    "sdn": "localnetwork",
                    "node": name,
                    "status": "ok",
                }
            )
            for name in call.sim.world.nodes
            if call.may("/sdn/zones/localnetwork", "SDN.Audit")
        ]
    return f'{{"data":[{",".join(rows)}]}}'.encode()


def _guests(call: Call) -> list[str]:
    cache = call.sim.cache
    guests = call.sim.world.guests.values()
    if call.may("/", "VM.Audit") and not _has_narrow_acl(call):
        return [cache.guest_json(guest) for guest in guests]
    return [cache.guest_json(g) for g in guests if call.may(f"/vms/{g.vmid}", "VM.Audit")]


def _has_narrow_acl(call: Call) -> bool:
    """Some entry below "/" could take rights away, so that each guest must be checked."""
    return any(entry.path.startswith("/vms") for entry in call.sim.access.acl)


def _storages(call: Call) -> list[dict[str, Any]]:
    rows = []
    world = call.sim.world
    for node in world.nodes.values():
        for storage in world.storages_of(node.name):
            path = f"/storage/{storage.name}"
            if not call.may(path, "Datastore.Audit", "Datastore.AllocateSpace", any_of=True):
                continue
            row: dict[str, Any] = {
                "id": f"storage/{node.name}/{storage.name}",
                "type": "storage",
                "storage": storage.name,
                "node": node.name,
                "plugintype": storage.type,
                "content": ",".join(storage.content),
                "shared": int(storage.shared),
                "status": "unknown",
            }
            if node.is_online and stats.storage_is_active(storage, node.name):
                row["status"] = "available"
                row["maxdisk"] = storage.size
                row["disk"] = call.sim.cache.used_bytes(storage, node.name)
            rows.append(row)
    return rows


@route("GET", "/cluster/status")
async def status(call: Call) -> Any:
    world = call.sim.world
    first = next(iter(world.nodes))
    rows: list[dict[str, Any]] = []
    if world.is_clustered:
        rows.append(
            {
                "id": "cluster",
                "type": "cluster",
                "name": world.cluster_name,
                "nodes": len(world.nodes),
                "quorate": int(world.has_quorum),
                "version": len(world.nodes),
            }
        )
    for node in world.nodes.values():
        rows.append(
            {
                "id": f"node/{node.name}",
                "type": "node",
                "name": node.name,
                "ip": node.ip,
                "nodeid": node.nodeid,
                "online": int(node.is_online),
                "local": int(node.name == first),
                "level": "",
            }
        )
    return rows


@route("GET", "/cluster/nextid")
async def nextid(call: Call) -> Any:
    world = call.sim.world
    vmid = call.params.get("vmid")
    if vmid is None:
        return str(world.free_vmid())
    if int(vmid) in world.guests:
        raise bad_parameter("vmid", f"VM {vmid} already exists")
    return str(vmid)


@route("GET", "/cluster/tasks")
async def tasks(call: Call) -> Any:
    sees_all = call.may("/", "Sys.Audit")
    rows = [
        cluster_row(record)
        for record in reversed(call.sim.world.tasks.values())
        if sees_all or is_own(record, call.identity.authid)
    ]
    running = [row for row in rows if "endtime" not in row]
    finished = [row for row in rows if "endtime" in row]
    return (running + finished)[:CLUSTER_TASKS]


@route("GET", "/cluster/options")
async def options(_call: Call) -> Any:
    return {"mac_prefix": "BC:24:11", "description": "", "allowed-tags": []}


@route("GET", "/cluster/sdn/vnets")
async def vnets(_call: Call) -> Any:
    return []
