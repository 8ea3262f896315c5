"""/nodes/N/qemu/V/move_disk."""

from __future__ import annotations

from typing import Any

from .. import drives, vmconfig, volumes
from ..errors import PveError
from ..routing import Call, route
from ..tasks import Job
from .qemu import start_task


@route("POST", "/nodes/{node}/qemu/{vmid}/move_disk")
async def move_disk(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    vmconfig.require_unlocked(guest)
    vmconfig.require_digest(guest, call.params.get("digest"))
    key = str(call.params["disk"])
    if "storage" not in call.params:
        raise PveError("moving a disk to another VM is not simulated", status=501)
    if key not in guest.config:
        raise PveError(f"disk '{key}' does not exist")
    storage = call.sim.world.storage_on(str(call.params["storage"]), call.node)
    call.require(f"/storage/{storage.name}", "Datastore.AllocateSpace")
    drive = drives.parse_drive(key, guest.config[key])
    if drive.is_cdrom:
        raise PveError(f"you can't move a cdrom - '{drive.file}'")
    if drive.storage == storage.name and "format" not in call.params:
        raise PveError("you can't move to the same storage with same format")
    return start_task(call, "qmmove", lambda job: _move(call, job, key))


async def _move(call: Call, job: Job, key: str) -> None:
    sim = call.sim
    async with sim.locks.config(call.vmid, say=job.say):
        guest = sim.world.guest(call.node, call.vmid)
        vmconfig.require_unlocked(guest)
        drive = drives.parse_drive(key, guest.config[key])
        source = sim.world.find_volume(drive.file, call.node)
        if source is None:
            raise PveError(f"volume '{drive.file}' does not exist")
        if volumes.users_of_base(sim, source.volid):
            raise PveError(f"can't move base volume '{source.volid}'")
        target_storage = sim.world.storage_on(str(call.params["storage"]), call.node)
        job.say(f"create full clone of drive {key} ({drive.file})")
        copy = await volumes.allocate(
            sim,
            job,
            storage=target_storage,
            node=call.node,
            vmid=call.vmid,
            size=source.size,
            volume_format=call.params.get("format") or source.format,
        )

        async def undo() -> None:
            volumes.remove(sim, copy.volid, call.node)

        job.on_failure(undo)
        await volumes.copy_into(
            sim,
            job,
            source=source,
            source_storage=sim.world.storage_on(drive.storage, call.node),
            target=copy,
            target_storage=target_storage,
            node=call.node,
            bwlimit_kib=int(call.params.get("bwlimit", 0)),
        )
        guest.config[key] = str(drives.Drive(key, copy.volid, drive.options))
        if call.params.get("delete"):
            volumes.remove(sim, source.volid, call.node)
        else:
            guest.config[vmconfig.next_unused(guest.config)] = source.volid
