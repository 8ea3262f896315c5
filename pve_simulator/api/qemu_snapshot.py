"""/nodes/N/qemu/V/snapshot: the tree, taking, deleting, rolling back."""

from __future__ import annotations

from typing import Any

from .. import snapshots, vmconfig
from ..errors import PveError
from ..routing import Call, route
from ..world import Snapshot
from .qemu import start_task


@route("GET", "/nodes/{node}/qemu/{vmid}/snapshot")
async def list_snapshots(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    rows = []
    for snapshot in guest.snapshots.values():
        row: dict[str, Any] = {
            "name": snapshot.name,
            "description": snapshot.description,
            "snaptime": snapshot.taken_at,
            "vmstate": int(snapshot.has_ram),
        }
        if snapshot.parent:
            row["parent"] = snapshot.parent
        rows.append(row)
    current: dict[str, Any] = {
        "name": "current",
        "description": "You are here!",
        "digest": vmconfig.guest_digest(guest),
        "running": int(guest.is_running),
    }
    if guest.parent:
        current["parent"] = guest.parent
    return [*rows, current]


@route("POST", "/nodes/{node}/qemu/{vmid}/snapshot")
async def take(call: Call) -> Any:
    name = str(call.params["snapname"])
    if name in ("current", "pending", "cloudinit", "special"):
        raise PveError(f"unable to use snapshot name '{name}' (reserved name)")
    return start_task(
        call,
        "qmsnapshot",
        lambda job: snapshots.take(
            call.sim,
            job,
            call.node,
            call.vmid,
            name=name,
            description=str(call.params.get("description", "")),
            has_ram=bool(call.params.get("vmstate")),
        ),
    )


def _snapshot(call: Call) -> Snapshot:
    guest = call.sim.world.guest(call.node, call.vmid)
    name = str(call.params["snapname"])
    if name not in guest.snapshots:
        raise PveError(f"snapshot '{name}' does not exist")
    return guest.snapshots[name]


@route("GET", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}")
async def index(_call: Call) -> Any:
    return [{"cmd": "config"}, {"cmd": "rollback"}]


@route("GET", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config")
async def get_config(call: Call) -> Any:
    snapshot = _snapshot(call)
    config = vmconfig.masked(dict(snapshot.config)) | {"snaptime": snapshot.taken_at}
    if snapshot.description:
        config["description"] = snapshot.description
    if snapshot.parent:
        config["parent"] = snapshot.parent
    return config


@route("PUT", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/config")
async def put_config(call: Call) -> Any:
    snapshot = _snapshot(call)
    async with call.sim.locks.config(call.vmid):
        if "description" in call.params:
            snapshot.description = str(call.params["description"])
    return None


@route("DELETE", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}")
async def delete(call: Call) -> Any:
    name, is_forced = str(call.params["snapname"]), bool(call.params.get("force"))
    return start_task(
        call,
        "qmdelsnapshot",
        lambda job: snapshots.delete(
            call.sim, job, call.node, call.vmid, name=name, is_forced=is_forced
        ),
    )


@route("POST", "/nodes/{node}/qemu/{vmid}/snapshot/{snapname}/rollback")
async def rollback(call: Call) -> Any:
    name, starts = str(call.params["snapname"]), bool(call.params.get("start"))
    return start_task(
        call,
        "qmrollback",
        lambda job: snapshots.rollback(
            call.sim, job, call.node, call.vmid, name=name, starts=starts
        ),
    )
