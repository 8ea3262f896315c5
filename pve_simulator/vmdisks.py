"""Drives of a VM: making, attaching, detaching and removing them when its config changes."""

from __future__ import annotations

import dataclasses

from . import drives, vmconfig, volumes
from .drives import Drive
from .errors import PveError
from .simulator import Simulator
from .tasks import Job
from .vmconfig import Changes
from .world import Config, Guest, Volume

HOTUNPLUG_S = 0.6


def check_storages(sim: Simulator, node: str, values: Config) -> None:
    """Refuse drives on storages that do not exist, before anything is made."""
    for key, value in values.items():
        if drives.DRIVE.match(key):
            drive = drives.parse_drive(key, str(value))
            if drive.is_volume:
                sim.world.storage_on(drive.storage, node)


async def apply_changes(sim: Simulator, job: Job | None, guest: Guest, changes: Changes) -> None:
    """Carry out a config change. Raises before anything is changed where Proxmox does."""
    for key, value in changes.values.items():
        if drives.DRIVE.match(key):
            _require_existing(sim, guest, drives.parse_drive(key, str(value)))
    vmconfig.revert_pending(guest, changes.revert)
    for key in changes.delete:
        await _delete(sim, guest, key, force=changes.force)
    for key, value in changes.values.items():
        if drives.DRIVE.match(key):
            await set_drive(sim, job, guest, drives.parse_drive(key, str(value)))
        else:
            vmconfig.set_value(guest, key, vmconfig.normalised(sim, key, value))


def _require_existing(sim: Simulator, guest: Guest, drive: Drive) -> None:
    """An attached volume must be there; new ones (`local:8`, `local:cloudinit`) are not yet."""
    if not drive.is_volume or "import-from" in drive.options:
        return
    if drives.new_disk_bytes(drive.file) is not None or drive.file.endswith(":cloudinit"):
        return
    sim.world.storage_on(drive.storage, guest.node)
    if sim.world.find_volume(drive.file, guest.node) is None:
        raise PveError(f"volume '{drive.file}' does not exist")


async def set_drive(sim: Simulator, job: Job | None, guest: Guest, drive: Drive) -> None:
    """Put a drive into the config, making its volume first when it asks for a new one."""
    _require_existing(sim, guest, drive)
    old = guest.config.get(drive.key)
    made = await _make_volume(sim, job, guest, drive)
    if made is not None:
        drive.file = made.volid
    volume = sim.world.find_volume(drive.file, guest.node) if drive.is_volume else None
    if volume is not None and not drive.is_cloudinit:
        drive.options["size"] = drives.format_size(volume.size)
    if made is not None and not drive.is_cloudinit and job:
        job.say(f"{drive.key}: successfully created disk '{drive}'")
    if old is not None and drives.parse_drive(drive.key, old).file != drive.file:
        _detach(sim, guest, drive.key, force=False)
    is_new_cdrom = old is None and drive.is_cdrom and not drive.is_cloudinit
    if is_new_cdrom and drives.boot_order(guest.config):
        order = ";".join([*drives.boot_order(guest.config), drive.key])
        guest.config["boot"] = f"order={order}"
    vmconfig.set_value(guest, drive.key, str(drive))


async def _make_volume(
    sim: Simulator, job: Job | None, guest: Guest, drive: Drive
) -> Volume | None:
    volume_format = drive.options.pop("format", None)
    source_id = drive.options.pop("import-from", None)
    if source_id is not None:
        return await _import(sim, job, guest, drive, source_id, volume_format)
    storage_name = drive.storage
    if drive.file.endswith(":cloudinit"):
        storage = sim.world.storage_on(storage_name, guest.node)
        drive.options["media"] = "cdrom"
        default = "qcow2" if volumes.is_file_based(storage) else "raw"
        return await volumes.allocate(
            sim,
            job,
            storage=storage,
            node=guest.node,
            vmid=guest.vmid,
            size=volumes.CLOUDINIT_BYTES,
            volume_format=volume_format or default,
            label=f"vm-{guest.vmid}-cloudinit",
        )
    size = drives.new_disk_bytes(drive.file)
    if size is None:
        return None
    storage = sim.world.storage_on(storage_name, guest.node)
    return await volumes.allocate(
        sim,
        job,
        storage=storage,
        node=guest.node,
        vmid=guest.vmid,
        size=size,
        volume_format=volume_format,
    )


async def _import(
    sim: Simulator,
    job: Job | None,
    guest: Guest,
    drive: Drive,
    source_id: str,
    volume_format: str | None,
) -> Volume:
    target_storage = sim.world.storage_on(drive.storage, guest.node)
    source_storage = sim.world.storage_on(source_id.split(":", 1)[0], guest.node)
    source = sim.world.find_volume(source_id, guest.node)
    if source is None:
        path = volumes.file_path(source_storage, source_id)
        raise PveError(f"failed to stat '{path}'")
    if job is None:
        raise PveError("cannot import from device or volume synchronously")
    default = source.format if volumes.is_file_based(target_storage) else "raw"
    target = await volumes.allocate(
        sim,
        job,
        storage=target_storage,
        node=guest.node,
        vmid=guest.vmid,
        size=source.size if source.content == "images" else _virtual_size(source),
        volume_format=volume_format or default,
    )

    async def undo() -> None:
        volumes.remove(sim, target.volid, guest.node)

    job.on_failure(undo)
    image = dataclasses.replace(source, size=target.size, data=source.data or target.size)
    await volumes.copy_into(
        sim,
        job,
        source=image,
        source_storage=source_storage,
        target=target,
        target_storage=target_storage,
        node=guest.node,
    )
    return target


def _virtual_size(source: Volume) -> int:
    """The disk inside an image file; kept in `data`, a file's `size` being its length."""
    return source.data or source.size


async def _delete(sim: Simulator, guest: Guest, key: str, *, force: bool) -> None:
    if drives.UNUSED.match(key) and key in guest.config:
        volid = drives.parse_drive(key, guest.config.pop(key)).file
        if volumes.users_of_base(sim, volid):
            raise PveError(f"base volume '{volid}' is still in use by linked cloned")
        volumes.remove(sim, volid, guest.node)
    elif drives.DRIVE.match(key) and key in guest.config:
        if guest.is_running:
            await sim.clock.sleep(HOTUNPLUG_S)
        _detach(sim, guest, key, force=force)
    else:
        if drives.NET.match(key) and guest.is_running and key in guest.config:
            await sim.clock.sleep(HOTUNPLUG_S)
        vmconfig.unset_value(guest, key)


def _detach(sim: Simulator, guest: Guest, key: str, *, force: bool) -> None:
    drive = drives.parse_drive(key, guest.config.pop(key))
    guest.running_config.pop(key, None)
    volume = sim.world.find_volume(drive.file, guest.node) if drive.is_volume else None
    if volume is None or volume.vmid != guest.vmid or volume.content != "images":
        return
    if drive.is_cloudinit or force:
        volumes.remove(sim, volume.volid, guest.node)
    else:
        guest.config[vmconfig.next_unused(guest.config)] = drive.file
