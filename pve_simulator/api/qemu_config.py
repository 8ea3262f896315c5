"""/nodes/N/qemu/V/config, /pending, /resize, /unlink, /cloudinit, /feature."""

from __future__ import annotations

from typing import Any

from .. import cloudinit, drives, features, power, vmconfig, vmdisks, volumes
from ..errors import PveError
from ..routing import Call, route
from ..tasks import Job
from ..vmconfig import Changes
from ..world import Guest
from .qemu import start_task

RESIZE_S = 0.3
REGENERATE_S = 0.05


@route("GET", "/nodes/{node}/qemu/{vmid}/config")
async def get_config(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    snapname = call.params.get("snapshot")
    if snapname is not None:
        if snapname not in guest.snapshots:
            raise PveError(f"snapshot '{snapname}' does not exist")
        return vmconfig.masked(dict(guest.snapshots[snapname].config))
    return vmconfig.shown(guest, is_current=bool(call.params.get("current")))


@route("GET", "/nodes/{node}/qemu/{vmid}/pending")
async def get_pending(call: Call) -> Any:
    return vmconfig.pending_list(call.sim.world.guest(call.node, call.vmid))


def _read(call: Call) -> Changes:
    changes = vmconfig.read_changes(call.params, is_root=call.identity.is_root)
    if changes.is_empty:
        raise PveError("no options specified")
    features.require_option_rights(call, changes)
    vmdisks.check_storages(call.sim, call.node, changes.values)
    return changes


async def _change(call: Call, job: Job | None, changes: Changes) -> None:
    say = job.say if job else None
    async with call.sim.locks.config(call.vmid, say=say):
        guest = call.sim.world.guest(call.node, call.vmid)
        vmconfig.require_digest(guest, changes.digest)
        if not call.params.get("skiplock") and "lock" not in changes.delete:
            vmconfig.require_unlocked(guest)
        await vmdisks.apply_changes(call.sim, job, guest, changes)


@route("PUT", "/nodes/{node}/qemu/{vmid}/config")
async def put_config(call: Call) -> Any:
    changes = _read(call)
    call.sim.world.guest(call.node, call.vmid)
    await _change(call, None, changes)
    return None


@route("POST", "/nodes/{node}/qemu/{vmid}/config")
async def post_config(call: Call) -> Any:
    changes = _read(call)
    call.sim.world.guest(call.node, call.vmid)

    async def worker(job: Job) -> None:
        given = {k: v for k, v in call.params.items() if k not in ("node", "vmid", "digest")}
        shown = " ".join(f"-{key} {_shown(key, value)}" for key, value in sorted(given.items()))
        job.say(f"update VM {call.vmid}: {shown}")
        await _change(call, job, changes)

    return start_task(call, "qmconfig", worker)


def _shown(key: str, value: Any) -> str:
    return "<hidden>" if key == "cipassword" else str(value)


@route("PUT", "/nodes/{node}/qemu/{vmid}/unlink")
async def unlink(call: Call) -> Any:
    changes = Changes({}, delete=str(call.params["idlist"]).split(","))
    changes.force = bool(call.params.get("force"))
    await _change(call, None, changes)
    return None


@route("PUT", "/nodes/{node}/qemu/{vmid}/resize")
async def resize(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    vmconfig.require_digest(guest, call.params.get("digest"))
    if call.sim.is_old:
        await _resize(call, None)
        return None

    async def worker(job: Job) -> None:
        await _resize(call, job)

    return start_task(call, "resize", worker)


async def _resize(call: Call, job: Job | None) -> None:
    sim, key = call.sim, str(call.params["disk"])
    async with sim.locks.config(call.vmid, say=job.say if job else None):
        guest = sim.world.guest(call.node, call.vmid)
        vmconfig.require_unlocked(guest)
        if key not in guest.config:
            raise PveError(f"disk '{key}' does not exist")
        drive = drives.parse_drive(key, guest.config[key])
        volume = sim.world.find_volume(drive.file, guest.node)
        if volume is None:
            raise PveError(f"volume '{drive.file}' does not exist")
        wanted = _wanted_size(str(call.params["size"]), volume.size)
        if wanted < volume.size:
            raise PveError("shrinking disks is not supported")
        if wanted > volume.size:
            await sim.clock.sleep(RESIZE_S)
            _grow(call, job, guest, drive, wanted)
        drive.options["size"] = drives.format_size(volume.size)
        guest.config[key] = str(drive)
        if guest.is_running:
            guest.running_config[key] = str(drive)


def _grow(call: Call, job: Job | None, guest: Guest, drive: drives.Drive, wanted: int) -> None:
    volume = call.sim.world.find_volume(drive.file, guest.node)
    storage = call.sim.world.storage_on(drive.storage, guest.node)
    if volume is None:
        return
    if "/base-" in drive.file.rsplit("/vm-", 1)[-1] and guest.is_template and storage.type == "dir":
        path = volumes.file_path(storage, drive.file)
        if job:
            job.say(
                f"qemu-img: Could not open '{path}': Could not open '{path}': "
                "Operation not permitted"
            )
        raise PveError(
            f"command '/usr/bin/qemu-img resize -f {volume.format} {path} {wanted}' "
            "failed: exit code 1"
        )
    volumes.require_usable(storage, guest.node)
    volume.size = wanted
    if job and volumes.is_file_based(storage):
        job.say("Image resized.")


def _wanted_size(text: str, current: int) -> int:
    if text.startswith("+"):
        return current + drives.parse_size(text[1:])
    return drives.parse_size(text)


@route("GET", "/nodes/{node}/qemu/{vmid}/cloudinit")
async def cloudinit_pending(call: Call) -> Any:
    return cloudinit.pending(call.sim.world.guest(call.node, call.vmid))


@route("PUT", "/nodes/{node}/qemu/{vmid}/cloudinit")
async def cloudinit_regenerate(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    await call.sim.clock.sleep(REGENERATE_S)
    power.remember_cloudinit(guest)
    return None


@route("GET", "/nodes/{node}/qemu/{vmid}/cloudinit/dump")
async def cloudinit_dump(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    return cloudinit.dump(guest, str(call.params["type"]))


@route("GET", "/nodes/{node}/qemu/{vmid}/feature")
async def feature(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    return features.lookup(
        call.sim, guest, str(call.params["feature"]), call.params.get("snapname")
    )
