"""Moving a guest to another node: what stands in the way, and the task."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import drives, vmconfig, volumes
from .errors import PveError
from .simulator import Simulator
from .tasks import Job
from .world import MIB, Guest, Volume

PREPARE_S, CLEAN_UP_S = 1.0, 0.5
RAM_BYTES_S = 500 * MIB
ABORTED = "migration aborted"


@dataclass(slots=True)
class Obstacles:
    """Local volumes that must be copied, and those that cannot be."""

    local_disks: list[Volume] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


def obstacles(sim: Simulator, guest: Guest) -> Obstacles:
    found = Obstacles()
    configs = [guest.config, *(snapshot.config for snapshot in guest.snapshots.values())]
    seen: set[str] = set()
    for config in configs:
        for drive in drives.drives_of(config):
            storage = sim.world.storages.get(drive.storage) if drive.is_volume else None
            if storage is None or storage.shared or drive.file in seen:
                continue
            seen.add(drive.file)
            volume = sim.world.find_volume(drive.file, guest.node)
            if drive.is_cdrom and not drive.is_cloudinit:
                found.refused.append(drive.file)
            elif volume is not None:
                found.local_disks.append(volume)
    return found


async def run(
    sim: Simulator,
    job: Job,
    *,
    node: str,
    vmid: int,
    target: str,
    is_online: bool,
    with_local_disks: bool,
    storage_name: str | None,
) -> None:
    """The worker of qmigrate."""
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        vmconfig.require_unlocked(guest)
        began = sim.clock.now()
        _say(job, f"starting migration of VM {vmid} to node '{target}' ({_ip(sim, target)})")
        _refuse(sim, job, guest, target, is_online, with_local_disks)
        guest.config["lock"] = "migrate"

        async def undo() -> None:
            guest.config.pop("lock", None)

        job.on_failure(undo)
        await job.sleep(PREPARE_S)
        moved = await _copy_local(sim, job, guest, target, storage_name)
        if guest.is_running:
            await _move_ram(job, guest)
        for old, new in moved:
            volumes.remove(sim, old, node)
            for key, value in guest.config.items():
                if drives.DRIVE.match(key) and str(value).split(",", 1)[0] == old:
                    drive = drives.parse_drive(key, str(value))
                    guest.config[key] = str(drives.Drive(key, new, drive.options))
        # Unlocked last: the node that it came from frees its disks first.
        guest.node = target
        await job.sleep(CLEAN_UP_S)
        guest.config.pop("lock", None)
        minutes, seconds = divmod(int(sim.clock.elapsed(began)), 60)
        _say(job, f"migration finished successfully (duration 00:{minutes:02d}:{seconds:02d})")


def _say(job: Job, text: str) -> None:
    job.say(f"{job.timestamp()} {text}")


def _ip(sim: Simulator, node: str) -> str:
    return sim.world.nodes[node].ip


def _refuse(
    sim: Simulator, job: Job, guest: Guest, target: str, is_online: bool, with_local_disks: bool
) -> None:
    if not sim.world.nodes[target].is_online:
        _say(job, f"ERROR: migration aborted (duration 00:00:10): Can't connect to '{target}'")
        raise PveError(ABORTED)
    found = obstacles(sim, guest)
    problem = ""
    if found.refused:
        for volid in found.refused:
            _say(job, f"can't migrate local disk '{volid}': local cdrom image")
        problem = "can't migrate VM - check log"
    elif found.local_disks and is_online and not with_local_disks:
        problem = "can't live migrate attached local disks without with-local-disks option"
    else:
        for drive in drives.drives_of(guest.config):
            storage = sim.world.storages.get(drive.storage) if drive.is_volume else None
            if storage and storage.nodes is not None and target not in storage.nodes:
                problem = f"storage '{storage.name}' is not available on node '{target}'"
    if problem:
        _say(job, f"ERROR: Problem found while scanning volumes - {problem}")
        _say(job, "aborting phase 1 - cleanup resources")
        _say(job, f"ERROR: migration aborted (duration 00:00:00): {problem}")
        raise PveError(ABORTED)


async def _copy_local(
    sim: Simulator, job: Job, guest: Guest, target: str, storage_name: str | None
) -> list[tuple[str, str]]:
    moved: list[tuple[str, str]] = []
    for volume in obstacles(sim, guest).local_disks:
        own = volume.volid.split(":", 1)[0]
        source_storage = sim.world.storage(own)
        storage = sim.world.storage_on(storage_name or own, target)
        volumes.require_space(sim, storage, target, volume.used)
        _say(job, f"copying local disk image '{volume.volid}'")
        await job.sleep(volume.data / min(source_storage.copy_bytes_s, storage.copy_bytes_s))
        name = volumes.short_name(volume.volid)
        volid = volumes.volume_name(storage, guest.vmid, name, volume.format)
        copy = Volume(
            volid,
            volume.content,
            volume.format,
            volume.size,
            volume.used,
            volume.ctime,
            volume.vmid,
            None,
            data=volume.data,
            system=volume.system,
        )
        volumes.add(sim, storage, target, copy)
        moved.append((volume.volid, volid))

        async def undo(new: str = volid) -> None:
            volumes.remove(sim, new, target)

        job.on_failure(undo)
    return moved


async def _move_ram(job: Job, guest: Guest) -> None:
    memory = drives.memory_mib(guest.running_config) * MIB
    _say(job, "starting online/live migration on unix:/run/qemu-server/migrate.sock")
    for step in range(1, 5):
        await job.sleep(memory / RAM_BYTES_S / 4)
        done = drives.human_size(memory * step / 4)
        _say(job, f"migration active, transferred {done} of {drives.human_size(memory)} VM-state")
    _say(job, "migration status: completed")
