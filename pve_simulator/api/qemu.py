"""/nodes/N/qemu: listing, creating, cloning, deleting, making templates."""

from __future__ import annotations

import re
from typing import Any

from .. import clone, drives, features, power, stats, vmconfig, vmdisks, volumes
from ..clone import CloneOrder
from ..errors import PveError, bad_parameter, forbidden
from ..routing import Call, route
from ..tasks import Job, Worker
from ..vmconfig import Changes
from ..world import Config, Guest

CREATE_S = 0.3
DELETE_S = 0.4
TEMPLATE_S = 0.3
QEMU_VERSION = "7.2.22"


def start_task(call: Call, kind: str, worker: Worker, *, id: str | None = None) -> str:
    """Begin a task of this VM on this node for the caller."""
    return call.sim.tasks.start(
        node=call.node,
        kind=kind,
        id=str(call.vmid) if id is None else id,
        user=call.identity.authid,
        worker=worker,
    )


@route("GET", "/nodes/{node}/qemu")
async def list_guests(call: Call) -> Any:
    rows = []
    for guest in call.sim.guests_on(call.node):
        if not call.may(f"/vms/{guest.vmid}", "VM.Audit"):
            continue
        row = stats.guest_row(call.sim, guest)
        if call.params.get("full") and guest.is_running:
            row |= stats.live_details(call.sim, guest)
        rows.append(row)
    return rows


@route("GET", "/nodes/{node}/qemu/{vmid}")
async def index(_call: Call) -> Any:
    names = [
        "config",
        "pending",
        "status",
        "unlink",
        "vncproxy",
        "resize",
        "migrate",
        "snapshot",
        "agent",
        "clone",
        "rrddata",
    ]
    return [{"subdir": name} for name in names]


@route("POST", "/nodes/{node}/qemu")
async def create(call: Call) -> Any:
    vmid, params = call.vmid, call.params
    require_allocate(call, vmid, params.get("pool"))
    if "archive" in params:
        from .backup import restore

        return await restore(call)
    changes = vmconfig.read_changes(params, is_root=call.identity.is_root)
    vmdisks.check_storages(call.sim, call.node, changes.values)
    features.require_resource_rights(call, changes.values)
    other = call.sim.world.guests.get(vmid)
    if other is not None:
        raise PveError(
            f"unable to create VM {vmid} - VM {vmid} already exists on node '{other.node}'"
        )
    guest = Guest(vmid, call.node, {"lock": "create"})
    call.sim.world.guests[vmid] = guest
    if params.get("pool"):
        call.sim.world.pools[str(params["pool"])].vms.add(vmid)
    return start_task(call, "qmcreate", lambda job: _create(call, job, guest, changes))


def require_allocate(call: Call, vmid: int, pool: Any) -> None:
    """403 unless the caller may make this VM, by itself or in the pool."""
    if pool and str(pool) not in call.sim.world.pools:
        raise forbidden(f"pool '{pool}' does not exist")
    if call.may(f"/vms/{vmid}", "VM.Allocate"):
        return
    if not pool or not call.may(f"/pool/{pool}", "VM.Allocate"):
        raise forbidden()


async def _create(call: Call, job: Job, guest: Guest, changes: Changes) -> None:
    sim = call.sim

    async def undo() -> None:
        guest.config.pop("lock", None)
        for volid in _owned_volumes(call, guest):
            volumes.remove(sim, volid, guest.node)
        sim.world.guests.pop(guest.vmid, None)

    job.on_failure(undo)
    async with sim.locks.config(guest.vmid, say=job.say):
        await job.sleep(CREATE_S)
        now = int(sim.clock.now())
        guest.config |= {
            "meta": f"creation-qemu={QEMU_VERSION},ctime={now}",
            "smbios1": f"uuid={sim.new_uuid()}",
            "vmgenid": sim.new_uuid(),
        }
        try:
            await vmdisks.apply_changes(sim, job, guest, changes)
        except PveError as error:
            raise PveError(f"unable to create VM {guest.vmid} - {error.text}") from None
        if "boot" not in guest.config and (disk := drives.boot_disk(guest.config)):
            nets = [key for key in sorted(guest.config) if drives.NET.match(key)]
            cdroms = [
                d.key for d in drives.drives_of(guest.config) if d.is_cdrom and not d.is_cloudinit
            ]
            guest.config["boot"] = "order=" + ";".join([disk.key, *cdroms[:1], *nets[:1]])
        guest.config.pop("lock", None)
    if call.params.get("start"):
        await power.start(sim, job, guest.node, guest.vmid)


def _owned_volumes(call: Call, guest: Guest) -> list[str]:
    known = [
        volid
        for storage in call.sim.world.storages_of(guest.node)
        for volid, volume in call.sim.world.volumes_of(storage, guest.node).items()
        if volume.vmid == guest.vmid and volume.content == "images"
    ]
    used = {str(value).split(",", 1)[0] for value in guest.config.values()}
    return [volid for volid in known if volid in used]


@route("POST", "/nodes/{node}/qemu/{vmid}/clone")
async def clone_guest(call: Call) -> Any:
    params = call.params
    pool = params.get("pool")
    if pool and str(pool) not in call.sim.world.pools:
        raise forbidden(f"pool '{pool}' does not exist")
    order = CloneOrder(
        node=call.node,
        vmid=call.vmid,
        newid=int(params["newid"]),
        name=params.get("name"),
        description=params.get("description"),
        is_full=bool(params["full"]) if "full" in params else None,
        storage=params.get("storage"),
        volume_format=params.get("format"),
        target=params.get("target"),
        snapname=params.get("snapname"),
        pool=str(pool) if pool else None,
        bwlimit_kib=int(params.get("bwlimit", 0)),
    )
    plan = clone.check(call.sim, order)
    for drive in plan.drives:
        storage = order.storage or drive.storage
        call.require(f"/storage/{storage}", "Datastore.AllocateSpace")
    for key, value in plan.config.items():
        if drives.NET.match(key) and not call.sim.is_old:
            features.require_bridge(call, str(value))
    return start_task(call, "qmclone", lambda job: clone.run(call.sim, job, order))


@route("DELETE", "/nodes/{node}/qemu/{vmid}")
async def delete(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    _refuse_delete(call, guest)
    return start_task(call, "qmdestroy", lambda job: _destroy(call, job))


def _refuse_delete(call: Call, guest: Guest) -> None:
    if guest.config.get("protection"):
        raise PveError(f"can't remove VM {guest.vmid} - protection mode enabled")
    if call.params.get("skiplock") and not call.identity.is_root:
        raise bad_parameter("skiplock", "Only root may use this option.")
    if guest.vmid in call.sim.world.ha and not call.params.get("purge"):
        raise PveError(
            f"unable to remove VM {guest.vmid} - used in HA resources and purge parameter not set."
        )
    if guest.is_running:
        raise PveError(f"VM {guest.vmid} is running - destroy failed")


async def _destroy(call: Call, job: Job) -> None:
    sim, vmid = call.sim, call.vmid
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(call.node, vmid)
        if guest.config.get("protection"):
            raise PveError(f"can't remove VM {vmid} - protection mode enabled")
        if not call.params.get("skiplock"):
            vmconfig.require_unlocked(guest, besides=("suspended",))
        if guest.is_running:
            raise PveError(f"VM {vmid} is running - destroy failed")
        await job.sleep(DELETE_S)
        volumes.free_with_guest(sim, guest)
        if call.params.get("destroy-unreferenced-disks"):
            _free_unreferenced(call, guest)
        del sim.world.guests[vmid]
        if call.params.get("purge"):
            job.say(f"purging VM {vmid} from related configurations..")
            sim.world.ha.pop(vmid, None)
        for pool in sim.world.pools.values():
            pool.vms.discard(vmid)


def _free_unreferenced(call: Call, guest: Guest) -> None:
    """Every image with this VMID on all enabled storages, also those of another cluster."""
    for storage in call.sim.world.storages_of(guest.node):
        if not storage.is_enabled:
            continue
        known = call.sim.world.volumes_of(storage, guest.node)
        for volid in [
            v.volid for v in known.values() if v.vmid == guest.vmid and v.content == "images"
        ]:
            del known[volid]


@route("POST", "/nodes/{node}/qemu/{vmid}/template")
async def make_template(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    _refuse_template(guest)
    return start_task(call, "qmtemplate", lambda job: _convert(call, job))


def _refuse_template(guest: Guest) -> None:
    vmconfig.require_unlocked(guest)
    if guest.snapshots:
        raise PveError("unable to create template, because VM contains snapshots")
    if guest.is_template:
        raise PveError("you can't convert a template to a template")
    if guest.is_running:
        raise PveError("you can't convert a VM to template if VM is running")


async def _convert(call: Call, job: Job) -> None:
    sim = call.sim
    async with sim.locks.config(call.vmid, say=job.say):
        guest = sim.world.guest(call.node, call.vmid)
        _refuse_template(guest)
        await job.sleep(TEMPLATE_S)
        for drive in drives.disks_of(guest.config):
            _make_base(call, guest.config, drive, guest.node)
        guest.config["template"] = 1


def _make_base(call: Call, config: Config, drive: drives.Drive, node: str) -> None:
    world = call.sim.world
    volume = world.find_volume(drive.file, node)
    storage = world.storages.get(drive.storage)
    if volume is None or storage is None:
        raise PveError(f"volume '{drive.file}' does not exist")
    known = world.volumes_of(storage, node)
    del known[volume.volid]
    own = volume.volid.rsplit("/vm-", 1)
    renamed = re.sub(r"\bvm-(\d+)-disk", r"base-\1-disk", "/vm-".join(own))
    volume.volid = renamed
    known[renamed] = volume
    config[drive.key] = str(drives.Drive(drive.key, renamed, drive.options))
