"""Snapshots: taking, deleting and rolling back, with what each storage type can do."""

from __future__ import annotations

from . import drives, power, stats, vmconfig, volumes
from .errors import PveError
from .simulator import Simulator
from .tasks import Job
from .world import Config, Guest, Snapshot

SNAPSHOT_S = 0.3
DELETE_S = 0.3
ROLLBACK_S = 0.5
RAM_SAVE_S = 1.0
_NOT_SAVED = ("lock", "parent", "vmstate", "runningmachine", "runningcpu")


async def take(
    sim: Simulator,
    job: Job,
    node: str,
    vmid: int,
    *,
    name: str,
    description: str,
    has_ram: bool,
) -> None:
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        _refuse_taking(sim, guest, name)
        guest.config["lock"] = "snapshot"
        has_ram = has_ram and guest.is_running

        async def undo() -> None:
            guest.config.pop("lock", None)

        job.on_failure(undo)
        state = await _save_ram(sim, job, guest, name) if has_ram else None
        if guest.is_running and not has_ram:
            await _freeze(sim, job, guest)
        await job.sleep(SNAPSHOT_S)
        for drive in drives.disks_of(guest.config):
            job.say(f"snapshotting 'drive-{drive.key}' ({drive.file})")
        config: Config = {k: v for k, v in guest.config.items() if k not in _NOT_SAVED}
        if state:
            config |= {"vmstate": state, "runningmachine": power.MACHINE}
        taken_at = int(sim.clock.now())
        guest.snapshots[name] = Snapshot(name, config, taken_at, description, guest.parent, has_ram)
        guest.parent = name
        guest.config.pop("lock", None)


def _refuse_taking(sim: Simulator, guest: Guest, name: str) -> None:
    if guest.is_template:
        raise PveError("you can't take a snapshot if it's a template")
    vmconfig.require_unlocked(guest)
    if name in guest.snapshots:
        raise PveError(f"snapshot name '{name}' already used")
    for drive in drives.disks_of(guest.config):
        volume = sim.world.find_volume(drive.file, guest.node)
        storage = sim.world.storages.get(drive.storage)
        if volume and storage and not volumes.can_snapshot(storage, volume.format):
            raise PveError("snapshot feature is not available")


async def _save_ram(sim: Simulator, job: Job, guest: Guest, name: str) -> str:
    state = await power.save_state(sim, job, guest, name)
    storage = state.volid.split(":", 1)[0]
    job.say(f"saving VM state and RAM using storage '{storage}'")
    await job.sleep(RAM_SAVE_S)
    saved = drives.human_size(state.used)
    job.say("2.01 MiB in 0s")
    job.say(f"completed saving the VM state in 1s, saved {saved}")
    return state.volid


async def _freeze(sim: Simulator, job: Job, guest: Guest) -> None:
    if drives.is_agent_enabled(guest.running_config) and not stats.agent_is_up(sim, guest):
        await job.sleep(power.AGENT_TIMEOUT_S)
        job.say(power.AGENT_SILENT.format(guest.vmid))


async def delete(
    sim: Simulator, job: Job, node: str, vmid: int, *, name: str, is_forced: bool
) -> None:
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        if not is_forced:
            vmconfig.require_unlocked(guest)
        if name not in guest.snapshots:
            raise PveError(f"snapshot '{name}' does not exist")
        guest.config["lock"] = "snapshot-delete"

        async def undo() -> None:
            guest.config.pop("lock", None)

        job.on_failure(undo)
        await job.sleep(DELETE_S)
        gone = guest.snapshots.pop(name)
        for snapshot in guest.snapshots.values():
            if snapshot.parent == name:
                snapshot.parent = gone.parent
        if guest.parent == name:
            guest.parent = gone.parent
        if "vmstate" in gone.config:
            volumes.remove(sim, str(gone.config["vmstate"]), node)
        guest.config.pop("lock", None)


async def rollback(
    sim: Simulator, job: Job, node: str, vmid: int, *, name: str, starts: bool
) -> None:
    """Config and disks as they were; with RAM the VM runs afterwards, without it is stopped."""
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        if guest.is_template:
            raise PveError("you can't rollback if VM is a template")
        if name not in guest.snapshots:
            raise PveError(f"snapshot '{name}' does not exist")
        vmconfig.require_unlocked(guest)
        snapshot = guest.snapshots[name]
        _refuse_rollback(sim, guest, snapshot)
        guest.config["lock"] = "rollback"
        if guest.is_running:
            await job.sleep(power.STOP_S)
            power.mark_stopped(guest)
        await job.sleep(ROLLBACK_S)
        state = snapshot.config.get("vmstate")
        kept = {k: v for k, v in snapshot.config.items() if k not in _NOT_SAVED}
        guest.config = kept | {"vmgenid": sim.new_uuid()} if "vmgenid" in kept else kept
        guest.pending, guest.pending_delete = {}, set()
        guest.parent = name
        _restore_sizes(sim, guest)
        if state and snapshot.has_ram:
            await job.sleep(power.START_S)
            power.mark_running(sim, guest)
            guest.os_started_at = 0.0
    if starts and not snapshot.has_ram:
        sim.tasks.start(
            node=node,
            kind="qmstart",
            id=str(vmid),
            user=job.record.user,
            worker=lambda start: power.start(sim, start, node, vmid),
        )


def _refuse_rollback(sim: Simulator, guest: Guest, snapshot: Snapshot) -> None:
    """ZFS goes back to its newest snapshot only."""
    newest = max(guest.snapshots.values(), key=lambda s: s.taken_at)
    for drive in drives.disks_of(snapshot.config):
        storage = sim.world.storages.get(drive.storage)
        if storage and storage.type == "zfspool" and guest.parent != snapshot.name:
            raise PveError(
                f"can't rollback, '{snapshot.name}' is not most recent snapshot on "
                f"'{drive.file}' (newest is '{newest.name}')"
            )


def _restore_sizes(sim: Simulator, guest: Guest) -> None:
    for drive in drives.disks_of(guest.config):
        volume = sim.world.find_volume(drive.file, guest.node)
        if volume is not None:
            volume.size = drives.drive_size(drive) or volume.size
