"""What a storage does: allocate, copy, link, resize and free volumes, by the rules of its type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from . import drives
from .errors import PveError
from .simulator import Simulator
from .tasks import Job
from .world import MIB, Guest, Storage, Volume

CLOUDINIT_BYTES = 4 * MIB
FILE_BASED = ("dir", "nfs", "cifs", "cephfs", "btrfs")
COPY_STEPS = 20
HOLD_LIMIT_S = 60.0
PARALLEL_GAIN = 1.5
"""Copies together move this much more than one alone (measured: one 1 GiB 2.5 s, three 5.1 s)."""


def is_file_based(storage: Storage) -> bool:
    return storage.type in FILE_BASED


def can_snapshot(storage: Storage, volume_format: str) -> bool:
    if is_file_based(storage):
        return volume_format == "qcow2"
    return storage.type in ("lvmthin", "rbd", "zfspool")


def can_link(storage: Storage, volid: str, *, from_snapshot: bool = False) -> bool:
    """Linked clones come from base volumes, on some storages from snapshots too."""
    if storage.type not in (*FILE_BASED, "lvmthin", "rbd", "zfspool"):
        return False
    if from_snapshot:
        return storage.type in ("rbd", "lvmthin")
    return bool(re.search(r"[:/]base-\d+-", volid.rsplit("/vm-", 1)[0])) and "/vm-" not in volid


def file_path(storage: Storage, volid: str) -> str:
    """Where the volume is on the node, as logs show it."""
    name = volid.split(":", 1)[1]
    folders = {"iso/": "template/iso/", "import/": "import/", "vztmpl/": "template/cache/"}
    folders |= {"snippets/": "snippets/", "backup/": "dump/"}
    for prefix, folder in folders.items():
        if name.startswith(prefix):
            return f"{storage.path}/{folder}{name.removeprefix(prefix)}"
    if is_file_based(storage):
        return f"{storage.path}/images/" + "/".join(name.split("/")[-2:])
    last = name.rsplit("/", 1)[-1]
    return {"rbd": f"rbd:{storage.name}/{last}"}.get(storage.type, f"/dev/{storage.name}/{last}")


def volume_name(storage: Storage, vmid: int, label: str, volume_format: str) -> str:
    if is_file_based(storage):
        return f"{storage.name}:{vmid}/{label}.{volume_format}"
    return f"{storage.name}:{label}"


def short_name(volid: str) -> str:
    return volid.split(":", 1)[1].rsplit("/", 1)[-1].split(".", 1)[0]


def free_disk_label(sim: Simulator, storage: Storage, node: str, vmid: int) -> str:
    taken = {short_name(volid) for volid in sim.world.volumes_of(storage, node)}
    index = 0
    while {f"vm-{vmid}-disk-{index}", f"base-{vmid}-disk-{index}"} & taken:
        index += 1
    return f"vm-{vmid}-disk-{index}"


def require_usable(storage: Storage, node: str, content: str = "images") -> None:
    if node in storage.offline_nodes:
        raise PveError(f"storage '{storage.name}' is not online")
    if content not in storage.content:
        what = {"images": "content-type 'images'"}.get(content, f"content-type '{content}'")
        raise PveError(f"storage '{storage.name}' is not configured for {what}")


def require_space(sim: Simulator, storage: Storage, node: str, wanted: int) -> None:
    free = storage.size - sim.world.used_bytes(storage, node)
    if wanted > free:
        raise PveError(f"{_no_space(storage)}")


def _no_space(storage: Storage) -> str:
    if storage.type == "lvmthin":
        return f"Insufficient free space: thin pool '{storage.name}' is full"
    if storage.type == "rbd":
        return "rbd error: rbd: create error: (28) No space left on device"
    return "No space left on device"


def _allocation_s(storage: Storage) -> float:
    """How long an allocation holds the storage's lock; Proxmox cuts it off after a minute."""
    if storage.allocate_s > HOLD_LIMIT_S and storage.shared:
        raise PveError(
            f"error during cfs-locked 'storage-{storage.name}' operation: got lock timeout - "
            "aborting command"
        )
    return storage.allocate_s


def add(sim: Simulator, storage: Storage, node: str, volume: Volume) -> None:
    sim.world.volumes_of(storage, node)[volume.volid] = volume


def remove(sim: Simulator, volid: str, node: str) -> None:
    storage = sim.world.storages.get(volid.split(":", 1)[0])
    if storage is not None:
        sim.world.volumes_of(storage, node).pop(volid, None)


async def allocate(
    sim: Simulator,
    job: Job | None,
    *,
    storage: Storage,
    node: str,
    vmid: int,
    size: int,
    volume_format: str | None = None,
    label: str | None = None,
    content: str = "images",
) -> Volume:
    """A new empty volume, made under the storage's lock."""
    require_usable(storage, node, content)
    chosen = volume_format or "raw"
    if not is_file_based(storage):
        chosen = "raw"
    say = job.say if job else None
    async with sim.locks.storage(storage.name, node, is_shared=storage.shared, say=say):
        await (job or sim.clock).sleep(_allocation_s(storage))
        require_space(sim, storage, node, MIB)
        name = label or free_disk_label(sim, storage, node, vmid)
        volid = volume_name(storage, vmid, name, chosen)
        if volid in sim.world.volumes_of(storage, node):
            raise PveError(f"disk image '{file_path(storage, volid)}' already exists")
        used = 200704 if chosen == "qcow2" else 0
        volume = Volume(volid, content, chosen, size, used, int(sim.clock.now()), vmid)
        add(sim, storage, node, volume)
    if job:
        job.say(_made_line(storage, volume))
    return volume


def _made_line(storage: Storage, volume: Volume) -> str:
    if not is_file_based(storage):
        return f'  Logical volume "{short_name(volume.volid)}" created.'
    path = file_path(storage, volume.volid)
    if volume.format == "raw":
        return f"Formatting '{path}', fmt=raw size={volume.size} preallocation=off"
    return (
        f"Formatting '{path}', fmt=qcow2 cluster_size=65536 extended_l2=off preallocation=metadata "
        f"compression_type=zlib size={volume.size} lazy_refcounts=off refcount_bits=16"
    )


async def copy_into(
    sim: Simulator,
    job: Job,
    *,
    source: Volume,
    source_storage: Storage,
    target: Volume,
    target_storage: Storage,
    node: str,
    bwlimit_kib: int = 0,
    prefix: str = "",
) -> None:
    """Move the source's data with progress in the log, sharing the storages' speed."""
    job.abort_text = "clone failed: copy failed: " + _interrupted(
        source_storage, source, target_storage, target, bwlimit_kib
    )
    total = source.size
    job.say(f"{prefix}transferred 0.0 B of {human(total)} (0.00%)")
    steps = COPY_STEPS if source.data else 1
    with _copying(sim, source_storage, node), _copying(sim, target_storage, node):
        for step in range(1, steps + 1):
            speed = min(_speed(sim, source_storage, node), _speed(sim, target_storage, node))
            if bwlimit_kib:
                speed = min(speed, bwlimit_kib * 1024)
            await job.sleep(source.data / steps / speed)
            require_space(sim, target_storage, node, source.used // steps)
            target.used = max(target.used, source.used * step // steps)
            done = total * step // steps
            job.say(
                f"{prefix}transferred {human(done)} of {human(total)} ({done * 100 / total:.2f}%)"
            )
    job.say(f"{prefix}transferred {human(total)} of {human(total)} (100.00%)")
    target.data, target.system = source.data, source.system


def human(size: float) -> str:
    return drives.human_size(size)


@contextmanager
def _copying(sim: Simulator, storage: Storage, node: str) -> Iterator[None]:
    key = (storage.name, "" if storage.shared else node)
    sim.copies[key] += 1
    try:
        yield
    finally:
        sim.copies[key] -= 1


def _speed(sim: Simulator, storage: Storage, node: str) -> float:
    running = sim.copies[(storage.name, "" if storage.shared else node)]
    return min(storage.copy_bytes_s, storage.copy_bytes_s * PARALLEL_GAIN / max(1, running))


def _interrupted(
    source_storage: Storage, source: Volume, target_storage: Storage, target: Volume, limit: int
) -> str:
    rate = f"-r {limit}K " if limit else ""
    zero = "zeroinit:" if is_file_based(target_storage) else ""
    return (
        f"command '/usr/bin/qemu-img convert -p -n {rate}-f {source.format} -O {target.format} "
        f"{file_path(source_storage, source.volid)} "
        f"{zero}{file_path(target_storage, target.volid)}' failed: interrupted by signal"
    )


async def link(
    sim: Simulator, job: Job, *, base: Volume, storage: Storage, node: str, vmid: int
) -> Volume:
    """A linked clone of a base volume; its data stays in the base."""
    async with sim.locks.storage(storage.name, node, is_shared=storage.shared, say=job.say):
        await job.sleep(_allocation_s(storage))
        label = free_disk_label(sim, storage, node, vmid)
        own = volume_name(storage, vmid, label, "qcow2")
        base_name = base.volid.split(":", 1)[1]
        name = own.split(":", 1)[1]
        if is_file_based(storage):
            job.say(
                f"clone {base_name}: images, {name.split('/')[-1]}, {vmid} to "
                f"{name.split('/')[-1]} (base=../{base_name})"
            )
            job.say(
                f"Formatting '{storage.path}/images/{name}', fmt=qcow2 cluster_size=65536 "
                f"extended_l2=off compression_type=zlib size={base.size} "
                f"backing_file=../{base_name} backing_fmt={base.format} lazy_refcounts=off "
                "refcount_bits=16"
            )
        is_tracked = storage.type != "lvmthin"
        volid = f"{storage.name}:{base_name}/{name}" if is_tracked else own
        parent = f"../{base_name}" if is_file_based(storage) else base_name
        volume = Volume(
            volid,
            "images",
            "qcow2" if is_file_based(storage) else "raw",
            base.size,
            200704,
            int(sim.clock.now()),
            vmid,
            parent if is_tracked else None,
            data=base.data,
            system=base.system,
        )
        add(sim, storage, node, volume)
    return volume


def users_of_base(sim: Simulator, volid: str) -> list[str]:
    """Volumes that are linked clones of this one."""
    prefix = f"{volid}/"
    return [
        name for known in sim.world.volumes.values() for name in known if name.startswith(prefix)
    ]


def free_with_guest(sim: Simulator, guest: Guest) -> None:
    """Free what the guest's config and snapshots own; refuse while a base is in use."""
    configs = [guest.config, *(snapshot.config for snapshot in guest.snapshots.values())]
    owned: list[str] = []
    for config in configs:
        for key, value in config.items():
            if drives.DRIVE.match(key) or drives.UNUSED.match(key) or key == "vmstate":
                drive = drives.parse_drive(key, str(value))
                volume = sim.world.find_volume(drive.file, guest.node) if drive.is_volume else None
                if volume is not None and volume.vmid == guest.vmid and volume.content == "images":
                    owned.append(volume.volid)
    for volid in owned:
        if users_of_base(sim, volid):
            raise PveError(f"base volume '{volid}' is still in use by linked cloned")
    for volid in owned:
        remove(sim, volid, guest.node)
