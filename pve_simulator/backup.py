"""Backups of guests to a storage, and guests restored from them."""

from __future__ import annotations

import shlex
import time
from typing import Any

from . import drives, vmconfig, volumes
from .errors import PveError
from .simulator import Simulator
from .tasks import Job
from .world import MIB, Config, Guest, Storage, Volume

COPIES_BYTES_S = 60 * MIB
COMPRESSED_SHARE = 0.2
STEPS = 10
_NOT_SAVED = ("lock", "parent", "template")


def config_text(config: Config) -> str:
    """A config as its file has it, with the map of its disks that a backup adds."""
    lines = [f"{key}: {config[key]}" for key in sorted(config) if key not in _NOT_SAVED]
    for drive in drives.disks_of(config):
        kind = "qcow2" if drive.file.endswith(".qcow2") else "raw"
        lines.append(f"#qmdump#map:{drive.key}:drive-{drive.key}:{drive.storage}:{kind}:")
    return "\n".join(lines) + "\n"


def parse_config(text: str) -> Config:
    """The inverse; integers where the API answers integers."""
    config: Config = {}
    for line in text.splitlines():
        key, colon, value = line.partition(": ")
        if colon and not line.startswith("#"):
            is_number = key in ("cores", "sockets", "onboot", "protection") and value.isdigit()
            config[key] = int(value) if is_number else value
    return config


async def back_up(
    sim: Simulator, job: Job, guest: Guest, storage: Storage, params: dict[str, Any]
) -> None:
    """The worker of vzdump for one guest. The guest is locked meanwhile."""
    began = sim.clock.now()
    async with sim.locks.config(guest.vmid, say=job.say):
        vmconfig.require_unlocked(guest)
        guest.config["lock"] = "backup"

    async def unlock() -> None:
        guest.config.pop("lock", None)

    job.on_failure(unlock)
    _announce(job, guest, params)
    volid = _free_name(sim, guest, storage, began)
    job.say(f"INFO: creating vzdump archive '{volumes.file_path(storage, volid)}'")
    size = sum(drives.drive_size(drive) for drive in drives.disks_of(guest.config))
    moved = await _copy(sim, job, guest, size, int(params.get("bwlimit", 0)))
    payload = config_text(guest.config).encode()
    volume = Volume(
        volid,
        "backup",
        "vma.zst",
        max(1024, int(moved * COMPRESSED_SHARE)),
        max(1024, int(moved * COMPRESSED_SHARE)),
        int(sim.clock.now()),
        guest.vmid,
        data=moved,
        system=_system_of(sim, guest),
        payload=payload,
    )
    volumes.require_space(sim, storage, guest.node, volume.size)
    volumes.add(sim, storage, guest.node, volume)
    job.say(f"INFO: archive file size: {volume.size // MIB}MB")
    if "notes-template" in params:
        job.say("INFO: adding notes to backup")
        volume.notes = str(params["notes-template"]).replace("{{guestname}}", guest.name)
    guest.config.pop("lock", None)
    job.say(f"INFO: Finished Backup of VM {guest.vmid} (00:00:01)")
    job.say(f"INFO: Backup finished at {job.timestamp()}")


def _free_name(sim: Simulator, guest: Guest, storage: Storage, moment: float) -> str:
    """Named by its second; at high speed two backups may fall into one, the later moves on."""
    while True:
        stamp = time.strftime("%Y_%m_%d-%H_%M_%S", time.gmtime(moment))
        volid = f"{storage.name}:backup/vzdump-qemu-{guest.vmid}-{stamp}.vma.zst"
        if sim.world.find_volume(volid, guest.node) is None:
            return volid
        moment += 1


def _announce(job: Job, guest: Guest, params: dict[str, Any]) -> None:
    given = {k: v for k, v in params.items() if k not in ("node", "vmid")}
    options = " ".join(f"--{key} {shlex.quote(str(value))}" for key, value in given.items())
    job.say(f"INFO: starting new backup job: vzdump {guest.vmid} --node {guest.node} {options}")
    job.say(f"INFO: Starting Backup of VM {guest.vmid} (qemu)")
    job.say(f"INFO: Backup started at {job.timestamp()}")
    job.say(f"INFO: status = {'running' if guest.is_running else 'stopped'}")
    job.say(f"INFO: VM Name: {guest.name}")
    for drive in drives.disks_of(guest.config):
        size = drive.options.get("size", "")
        job.say(f"INFO: include disk '{drive.key}' '{drive.file}' {size}")
    job.say(f"INFO: backup mode: {params.get('mode', 'snapshot')}")
    job.say("INFO: ionice priority: 7")


async def _copy(sim: Simulator, job: Job, guest: Guest, size: int, limit_kib: int) -> int:
    """Move the data with progress; the bytes that were not holes."""
    data = 0
    for drive in drives.disks_of(guest.config):
        volume = sim.world.find_volume(drive.file, guest.node)
        data += volume.data if volume else 0
    speed = min(COPIES_BYTES_S, limit_kib * 1024) if limit_kib else COPIES_BYTES_S
    for step in range(1, STEPS + 1):
        await job.sleep(data / STEPS / speed)
        done = volumes.human(size * step / STEPS)
        job.say(f"INFO: {step * 100 // STEPS:3d}% ({done} of {volumes.human(size)})")
    return data


def _system_of(sim: Simulator, guest: Guest) -> str:
    disk = drives.boot_disk(guest.config)
    volume = sim.world.find_volume(disk.file, guest.node) if disk else None
    return volume.system if volume else ""


async def restore(
    sim: Simulator,
    job: Job,
    guest: Guest,
    archive: Volume,
    *,
    storage_name: str | None,
    is_unique: bool,
    changes: Config,
) -> None:
    """The worker of qmrestore: the archive's config and disks as a new guest."""
    saved = parse_config((archive.payload or b"").decode())

    async def undo() -> None:
        sim.world.guests.pop(guest.vmid, None)

    job.on_failure(undo)
    job.say(f"restore vma archive: zstd -q -d -c {archive.volid} | vma extract -v -r - -")
    async with sim.locks.config(guest.vmid, say=job.say):
        config = {key: value for key, value in saved.items() if not drives.DRIVE.match(key)}
        for drive in drives.drives_of(saved):
            if drive.is_cdrom and not drive.is_cloudinit:
                config[drive.key] = str(drive)
                continue
            storage = sim.world.storage_on(storage_name or drive.storage, guest.node)
            copy = await _restore_disk(sim, job, guest, archive, drive, storage)
            config[drive.key] = str(drives.Drive(drive.key, copy.volid, drive.options))
        if is_unique:
            _renew(sim, config)
        config |= {key: vmconfig.normalised(sim, key, value) for key, value in changes.items()}
        guest.config = config
    job.say("rescan volumes...")


async def _restore_disk(
    sim: Simulator, job: Job, guest: Guest, archive: Volume, drive: drives.Drive, storage: Storage
) -> Volume:
    copy = await volumes.allocate(
        sim,
        job,
        storage=storage,
        node=guest.node,
        vmid=guest.vmid,
        size=drives.drive_size(drive) or volumes.CLOUDINIT_BYTES,
        volume_format="qcow2" if volumes.is_file_based(storage) else "raw",
        label=f"vm-{guest.vmid}-cloudinit" if drive.is_cloudinit else None,
    )

    async def undo() -> None:
        volumes.remove(sim, copy.volid, guest.node)

    job.on_failure(undo)
    job.say(f"new volume ID is '{copy.volid}'")
    for step in range(1, STEPS + 1):
        await job.sleep(archive.data / STEPS / storage.copy_bytes_s)
        read = copy.size * step // STEPS
        job.say(f"progress {step * 100 // STEPS}% (read {read} bytes, duration 0 sec)")
    job.say(f"total bytes read {copy.size}")
    copy.data, copy.used, copy.system = archive.data, archive.data, archive.system
    return copy


def _renew(sim: Simulator, config: Config) -> None:
    for key in config:
        if drives.NET.match(key):
            net = drives.parse_net(str(config[key]))
            net.mac = sim.new_mac()
            config[key] = str(net)
    config["smbios1"] = f"uuid={sim.new_uuid()}"
    config["vmgenid"] = sim.new_uuid()


def find_archive(sim: Simulator, volid: str, node: str) -> Volume:
    archive = sim.world.find_volume(volid, node)
    if archive is None or archive.content != "backup":
        raise PveError(f"volume '{volid}' does not exist")
    return archive
