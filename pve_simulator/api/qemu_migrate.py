"""/nodes/N/qemu/V/migrate."""

from __future__ import annotations

from typing import Any

from .. import ha, migrate
from ..errors import PveError, bad_parameter
from ..routing import Call, route
from .qemu import start_task


@route("GET", "/nodes/{node}/qemu/{vmid}/migrate")
async def preconditions(call: Call) -> Any:
    world = call.sim.world
    guest = world.guest(call.node, call.vmid)
    found = migrate.obstacles(call.sim, guest)
    others = [name for name in world.nodes if name != call.node]
    missing = {
        name: {"unavailable_storages": gone}
        for name in others
        if (gone := _missing_storages(call, name))
    }
    return {
        "running": int(guest.is_running),
        "allowed_nodes": [name for name in others if name not in missing],
        "not_allowed_nodes": missing,
        "local_disks": [
            {"volid": volume.volid, "size": volume.size, "cdrom": 0, "is_unused": 0}
            for volume in found.local_disks
        ]
        + [{"volid": volid, "size": 0, "cdrom": 1, "is_unused": 0} for volid in found.refused],
        "local_resources": [],
        "mapped-resources": [],
    }


def _missing_storages(call: Call, target: str) -> list[str]:
    guest = call.sim.world.guest(call.node, call.vmid)
    volumes = [v.volid for v in migrate.obstacles(call.sim, guest).local_disks]
    here = {storage.name for storage in call.sim.world.storages_of(target)}
    return sorted({volid.split(":", 1)[0] for volid in volumes} - here)


@route("POST", "/nodes/{node}/qemu/{vmid}/migrate")
async def start(call: Call) -> Any:
    target = str(call.params["target"])
    if target == call.node:
        raise bad_parameter("target", "target is local node.")
    if target not in call.sim.world.nodes:
        raise PveError(f"no such cluster node '{target}'")
    guest = call.sim.world.guest(call.node, call.vmid)
    is_online = bool(call.params.get("online"))
    if guest.is_running and not is_online:
        raise PveError("can't migrate running VM without --online")
    if ha.manages(call.sim, call.vmid):
        return start_task(
            call, "hamigrate", lambda job: ha.request_move(call.sim, job, call.vmid, target)
        )
    return start_task(
        call,
        "qmigrate",
        lambda job: migrate.run(
            call.sim,
            job,
            node=call.node,
            vmid=call.vmid,
            target=target,
            is_online=is_online,
            with_local_disks=bool(call.params.get("with-local-disks")),
            storage_name=call.params.get("targetstorage"),
        ),
    )
