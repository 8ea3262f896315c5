"""/nodes/N/vzdump and the restoring half of POST /nodes/N/qemu."""

from __future__ import annotations

from typing import Any

from .. import backup, vmconfig
from ..errors import PveError, bad_parameter
from ..formats import split_list
from ..routing import Call, route
from ..tasks import Job
from ..world import Guest
from .qemu import require_allocate, start_task


@route("POST", "/nodes/{node}/vzdump")
async def vzdump(call: Call) -> Any:
    vmids = [int(vmid) for vmid in split_list(str(call.params.get("vmid", "")))]
    if call.params.get("all"):
        vmids = [guest.vmid for guest in call.sim.guests_on(call.node)]
    if not vmids:
        raise bad_parameter("vmid", "property is missing and it is not optional")
    for vmid in vmids:
        call.require(f"/vms/{vmid}", "VM.Backup")
    storage = call.sim.world.storage_on(str(call.params.get("storage", "local")), call.node)
    call.require(f"/storage/{storage.name}", "Datastore.AllocateSpace")
    if "backup" not in storage.content:
        raise PveError(f"storage '{storage.name}' does not support backups")

    async def worker(job: Job) -> None:
        for vmid in vmids:
            guest = call.sim.world.guest(call.node, vmid)
            await backup.back_up(call.sim, job, guest, storage, call.params)
        job.say("INFO: Backup job finished successfully")

    return call.sim.tasks.start(
        node=call.node,
        kind="vzdump",
        id=str(vmids[0]) if len(vmids) == 1 else "",
        user=call.identity.authid,
        worker=worker,
    )


@route("GET", "/nodes/{node}/vzdump/extractconfig")
async def extract_config(call: Call) -> Any:
    volid = str(call.params["volume"])
    archive = backup.find_archive(call.sim, volid, call.node)
    call.require(f"/storage/{volid.split(':', 1)[0]}", "Datastore.Audit")
    return (archive.payload or b"").decode()


async def restore(call: Call) -> str:
    """POST /nodes/N/qemu with `archive`."""
    sim, vmid, params = call.sim, call.vmid, call.params
    require_allocate(call, vmid, params.get("pool"))
    changes = vmconfig.read_changes(params, is_root=call.identity.is_root)
    other = sim.world.guests.get(vmid)
    if other is not None:
        where = f"VM {vmid} already exists on node '{other.node}'"
        raise PveError(f"unable to restore VM {vmid} - {where}")
    archive = backup.find_archive(sim, str(params["archive"]), call.node)
    guest = Guest(vmid, call.node, {"lock": "create"})
    sim.world.guests[vmid] = guest
    return start_task(
        call,
        "qmrestore",
        lambda job: backup.restore(
            sim,
            job,
            guest,
            archive,
            storage_name=params.get("storage"),
            is_unique=bool(params.get("unique")),
            changes=changes.values,
        ),
    )
