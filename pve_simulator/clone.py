"""Cloning: full and linked, with Proxmox's order of checks, locks and half-made states."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from . import drives, vmconfig, volumes
from .drives import Drive
from .errors import PveError
from .locks import CLONE_LOCK_S
from .simulator import Simulator
from .tasks import Job
from .world import Config, Guest, Storage, Volume

FORK_REAL_S = 0.03
"""Until the worker has its locks, in real seconds whatever the speed, as a fork takes its time.
Clones to one new VMID that are asked for meanwhile are all accepted."""

PREPARE_S = 0.1
PLACEHOLDER = " qmclone temporary file"
_NOT_COPIED = frozenset(
    ["parent", "snaptime", "vmstate", "snapstate", "lock", "digest", "template"]
)


@dataclass(frozen=True, slots=True)
class CloneOrder:
    """What one clone call asked for. `is_full` None means the default: linked for a template."""

    node: str
    vmid: int
    newid: int
    name: str | None = None
    description: str | None = None
    is_full: bool | None = None
    storage: str | None = None
    volume_format: str | None = None
    target: str | None = None
    snapname: str | None = None
    pool: str | None = None
    bwlimit_kib: int = 0


@dataclass(slots=True)
class Plan:
    source: Guest
    config: Config
    drives: list[Drive]
    is_full: bool


def check(sim: Simulator, order: CloneOrder) -> Plan:
    """Everything that is refused at once; done again by the worker under its locks."""
    source = sim.world.guest_in_cluster(order.node, order.vmid)
    if order.target and order.target not in sim.world.nodes:
        raise PveError(f"no such cluster node '{order.target}'")
    vmconfig.require_unlocked(source)
    if order.storage:
        storage = sim.world.storage_on(order.storage, order.node)
        if order.target:
            sim.world.storage_on(order.storage, order.target)
        volumes.require_usable(storage, order.node)
    is_full = not source.is_template if order.is_full is None else order.is_full
    if not is_full and order.storage:
        raise PveError("parameter 'storage' not allowed for linked clones")
    if order.newid in sim.world.guests:
        raise PveError(f"unable to create VM {order.newid}: config file already exists")
    config = _source_config(source, order.snapname)
    copied: list[Drive] = []
    for drive in drives.drives_of(config):
        if drive.is_cdrom and not drive.is_cloudinit:
            continue
        if not drive.is_volume:
            continue
        _check_drive(sim, order, drive, is_full=is_full)
        copied.append(drive)
    return Plan(source, config, copied, is_full)


def _source_config(source: Guest, snapname: str | None) -> Config:
    if snapname is None:
        return dict(source.config)
    if snapname not in source.snapshots:
        raise PveError(f"snapshot '{snapname}' does not exist")
    return dict(source.snapshots[snapname].config)


def _check_drive(sim: Simulator, order: CloneOrder, drive: Drive, *, is_full: bool) -> None:
    storage = sim.world.storage_on(drive.storage, order.node)
    is_other_node = order.target is not None and order.target != order.node
    if is_other_node and not storage.shared:
        raise PveError(f"Can't clone VM to node '{order.target}' (VM uses local storage)")
    if is_full or drive.is_cloudinit:
        return
    from_snapshot = order.snapname is not None
    if not volumes.can_link(storage, drive.file, from_snapshot=from_snapshot):
        raise PveError(f"Linked clone feature is not supported for '{drive.file}' ({drive.key})")


def new_config(sim: Simulator, order: CloneOrder, plan: Plan) -> Config:
    """The clone's config without its drives: new MACs, new identity, settings kept."""
    config: Config = {}
    taken = {drive.key for drive in plan.drives}
    for key, value in plan.config.items():
        if key in _NOT_COPIED or key in taken or drives.UNUSED.match(key):
            continue
        if drives.NET.match(key):
            net = drives.parse_net(value)
            net.mac = sim.new_mac()
            value = str(net)
        config[key] = value
    old_smbios = drives.property_fields(plan.config.get("smbios1", ""))
    old_smbios["uuid"] = sim.new_uuid()
    config["smbios1"] = ",".join(f"{key}={value}" for key, value in sorted(old_smbios.items()))
    if plan.config.get("vmgenid"):
        config["vmgenid"] = sim.new_uuid()
    config["name"] = order.name or f"Copy-of-VM-{plan.source.config.get('name', order.vmid)}"
    if order.description:
        config["description"] = order.description
    return config


async def run(sim: Simulator, job: Job, order: CloneOrder) -> None:
    """The worker of qmclone."""
    await asyncio.sleep(FORK_REAL_S)
    source = sim.world.guest_in_cluster(order.node, order.vmid)
    shared = not source.is_running
    async with (
        sim.locks.config(order.vmid, shared=shared, timeout_s=CLONE_LOCK_S, say=job.say),
        sim.locks.config(order.newid, timeout_s=CLONE_LOCK_S, say=job.say),
    ):
        plan = check(sim, order)
        config = new_config(sim, order, plan)
        clone = Guest(order.newid, order.node, {"lock": "clone", "description": PLACEHOLDER})
        sim.world.guests[order.newid] = clone
        made: list[Volume] = []

        async def undo() -> None:
            for volume in made:
                await job.sleep(sim.storage_of(volume.volid).free_s)
                volumes.remove(sim, volume.volid, order.node)
            sim.world.guests.pop(order.newid, None)
            for pool in sim.world.pools.values():
                pool.vms.discard(order.newid)

        job.on_failure(undo)
        if order.pool:
            sim.world.pools[order.pool].vms.add(order.newid)
        await job.sleep(PREPARE_S)
        for drive in plan.drives:
            try:
                copy = await _clone_drive(sim, job, order, plan, drive, made)
            except PveError as error:
                raise PveError(f"clone failed: {error.text}") from None
            config[drive.key] = str(copy)
            clone.config = config | {"lock": "clone"}
        clone.config = config
        clone.node = order.target or order.node


async def _clone_drive(
    sim: Simulator,
    job: Job,
    order: CloneOrder,
    plan: Plan,
    drive: Drive,
    made: list[Volume],
) -> Drive:
    source = sim.world.find_volume(drive.file, order.node)
    storage = sim.world.storage_on(drive.storage, order.node)
    if source is None:
        raise PveError(f"volume '{drive.file}' does not exist")
    options = dict(drive.options)
    if not plan.is_full and not drive.is_cloudinit:
        job.say(f"create linked clone of drive {drive.key} ({drive.file})")
        linked = await volumes.link(
            sim, job, base=source, storage=storage, node=order.node, vmid=order.newid
        )
        made.append(linked)
        return Drive(drive.key, linked.volid, options)
    job.say(f"create full clone of drive {drive.key} ({drive.file})")
    target_storage = sim.world.storage_on(order.storage or drive.storage, order.node)
    copy = await _allocate_copy(sim, job, order, drive, source, target_storage)
    made.append(copy)
    if drive.is_cloudinit:
        options["size"] = drives.format_size(volumes.CLOUDINIT_BYTES)
        return Drive(drive.key, copy.volid, options)
    is_mirrored = plan.source.is_running and order.snapname is None
    mirror = f"drive-{drive.key}"
    if is_mirrored:
        job.say(f"drive mirror is starting for {mirror}")
    await volumes.copy_into(
        sim,
        job,
        source=source,
        source_storage=storage,
        target=copy,
        target_storage=target_storage,
        node=order.node,
        bwlimit_kib=order.bwlimit_kib,
        prefix=f"{mirror}: " if is_mirrored else "",
    )
    if is_mirrored:
        _finish_mirror(job, mirror)
    options["size"] = drives.format_size(copy.size)
    return Drive(drive.key, copy.volid, options)


def _finish_mirror(job: Job, mirror: str) -> None:
    """What a copy of a running guest's disk says at its end."""
    job.say("all 'mirror' jobs are ready")
    job.say("freeze filesystem")
    job.say(f"{mirror}: Cancelling block job")
    job.say(f"{mirror}: Done.")
    job.say("unfreeze filesystem")


async def _allocate_copy(
    sim: Simulator,
    job: Job,
    order: CloneOrder,
    drive: Drive,
    source: Volume,
    storage: Storage,
) -> Volume:
    wanted = order.volume_format or source.format
    if not volumes.is_file_based(storage):
        wanted = "raw"
    elif source.format == "raw" and not order.volume_format and drive.is_cloudinit:
        wanted = "qcow2"
    label = f"vm-{order.newid}-cloudinit" if drive.is_cloudinit else None
    return await volumes.allocate(
        sim,
        job,
        storage=storage,
        node=order.node,
        vmid=order.newid,
        size=volumes.CLOUDINIT_BYTES if drive.is_cloudinit else source.size,
        volume_format=wanted,
        label=label,
    )
