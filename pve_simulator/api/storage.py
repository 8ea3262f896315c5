"""/storage and /nodes/N/storage: definitions, state, content."""

from __future__ import annotations

from typing import Any

from .. import stats, volumes
from ..errors import PveError, bad_parameter
from ..routing import Call, route
from ..tasks import Job
from ..vmconfig import digest_of
from ..world import GIB, Storage, Volume

_AUDIT = ("Datastore.Audit", "Datastore.AllocateSpace")
DELETE_S = 0.1
DEFAULT_SIZE = 500 * GIB
SHARED_TYPES = ("nfs", "cifs", "rbd", "cephfs", "glusterfs", "iscsi", "pbs")


def _definition(call: Call, storage: Storage) -> dict[str, Any]:
    row: dict[str, Any] = {
        "storage": storage.name,
        "type": storage.type,
        "content": ",".join(storage.content),
        "digest": digest_of({name: s.type for name, s in call.sim.world.storages.items()}),
        **storage.options,
    }
    if storage.path:
        row["path"] = storage.path
    if storage.shared and storage.type in volumes.FILE_BASED:
        row["shared"] = 1
    if storage.nodes is not None:
        row["nodes"] = ",".join(storage.nodes)
    if not storage.is_enabled:
        row["disable"] = 1
    return row


@route("GET", "/storage")
async def definitions(call: Call) -> Any:
    return [
        _definition(call, storage)
        for storage in call.sim.world.storages.values()
        if call.may(f"/storage/{storage.name}", *_AUDIT, any_of=True)
        and call.params.get("type") in (None, storage.type)
    ]


@route("GET", "/storage/{storage}")
async def definition(call: Call) -> Any:
    return _definition(call, call.sim.world.storage(str(call.params["storage"])))


@route("PUT", "/storage/{storage}")
async def update_definition(call: Call) -> Any:
    storage = call.sim.world.storage(str(call.params["storage"]))
    if "disable" in call.params:
        storage.is_enabled = not call.params["disable"]
    if "disable" in str(call.params.get("delete", "")):
        storage.is_enabled = True
    if "content" in call.params:
        storage.content = str(call.params["content"]).split(",")
    if "nodes" in call.params:
        storage.nodes = str(call.params["nodes"]).split(",")
    return {"storage": storage.name, "type": storage.type}


def _state(call: Call, storage: Storage) -> dict[str, Any]:
    is_active = stats.storage_is_active(storage, call.node)
    used = call.sim.world.used_bytes(storage, call.node) if is_active else 0
    total = storage.size if is_active else 0
    return {
        "type": storage.type,
        "content": ",".join(storage.content),
        "shared": int(storage.shared),
        "enabled": int(storage.is_enabled),
        "active": int(is_active),
        "total": total,
        "used": used,
        "avail": max(0, total - used),
    }


@route("GET", "/nodes/{node}/storage")
async def node_storages(call: Call) -> Any:
    rows = []
    for storage in call.sim.world.storages_of(call.node):
        if not call.may(f"/storage/{storage.name}", *_AUDIT, any_of=True):
            continue
        if call.params.get("storage") not in (None, storage.name):
            continue
        wanted = str(call.params.get("content", "")).split(",")
        if call.params.get("content") and not set(wanted) & set(storage.content):
            continue
        if call.params.get("enabled") and not storage.is_enabled:
            continue
        row = {"storage": storage.name, **_state(call, storage)}
        if row["total"]:
            row["used_fraction"] = row["used"] / row["total"]
        rows.append(row)
    return rows


def _known_here(call: Call) -> Storage:
    name = str(call.params["storage"])
    storage = call.sim.world.storages.get(name)
    if storage is None or (storage.nodes is not None and call.node not in storage.nodes):
        raise bad_parameter("storage", "No such storage.")
    return storage


@route("GET", "/nodes/{node}/storage/{storage}/status")
async def storage_status(call: Call) -> Any:
    return _state(call, _known_here(call))


def content_row(volume: Volume) -> dict[str, Any]:
    row: dict[str, Any] = {
        "volid": volume.volid,
        "content": volume.content,
        "format": volume.format,
        "size": volume.size,
        "ctime": volume.ctime,
    }
    if volume.content in ("images", "rootdir"):
        row |= {"vmid": volume.vmid, "parent": volume.parent, "used": volume.used}
    if volume.content == "backup":
        row |= {"vmid": volume.vmid, "subtype": "qemu"}
        if volume.notes is not None:
            row["notes"] = volume.notes
    return row


@route("GET", "/nodes/{node}/storage/{storage}/content")
async def content(call: Call) -> Any:
    storage = call.sim.world.storage_on(str(call.params["storage"]), call.node)
    if call.node in storage.offline_nodes:
        raise PveError(f"storage '{storage.name}' is not online")
    wanted, vmid = call.params.get("content"), call.params.get("vmid")
    return [
        content_row(volume)
        for volume in sorted(
            call.sim.world.volumes_of(storage, call.node).values(), key=lambda v: v.volid
        )
        if wanted in (None, volume.content)
        and (vmid is None or volume.vmid in (vmid, None))
        and (vmid is None or volume.content in ("images", "rootdir", "import", "backup"))
    ]


def _volid(call: Call) -> str:
    given = str(call.params["volume"])
    storage = str(call.params["storage"])
    return given if given.startswith(f"{storage}:") else f"{storage}:{given}"


@route("GET", "/nodes/{node}/storage/{storage}/content/{volume}")
async def volume_info(call: Call) -> Any:
    volume = call.sim.world.find_volume(_volid(call), call.node)
    storage = call.sim.world.storage_on(str(call.params["storage"]), call.node)
    if volume is None:
        raise PveError(f"volume '{_volid(call)}' does not exist")
    return {
        "path": volumes.file_path(storage, volume.volid),
        "size": volume.size,
        "used": volume.used,
        "format": volume.format,
    }


@route("POST", "/nodes/{node}/storage/{storage}/content")
async def create_volume(call: Call) -> Any:
    from ..drives import parse_size

    storage = call.sim.world.storage_on(str(call.params["storage"]), call.node)
    call.require(f"/storage/{storage.name}", "Datastore.AllocateSpace")
    name = str(call.params["filename"])
    volume = await volumes.allocate(
        call.sim,
        None,
        storage=storage,
        node=call.node,
        vmid=call.vmid,
        size=parse_size(str(call.params["size"])),
        volume_format=call.params.get("format") or name.rsplit(".", 1)[-1],
        label=name.rsplit(".", 1)[0],
    )
    return volume.volid


@route("DELETE", "/nodes/{node}/storage/{storage}/content/{volume}")
async def delete_volume(call: Call) -> Any:
    volid = _volid(call)
    storage = call.sim.world.storage_on(str(call.params["storage"]), call.node)
    volume = call.sim.world.find_volume(volid, call.node)
    is_guests = volume is not None and volume.content in ("images", "backup")
    privilege = "Datastore.AllocateSpace" if is_guests else "Datastore.Allocate"
    call.require(f"/storage/{storage.name}", privilege)

    async def worker(job: Job) -> None:
        await job.sleep(DELETE_S)
        if volumes.users_of_base(call.sim, volid):
            raise PveError(f"base volume '{volid}' is still in use by linked cloned")
        if call.sim.world.find_volume(volid, call.node) is None:
            path = volumes.file_path(storage, volid)
            raise PveError(f"unlink '{path}' failed - No such file or directory")
        volumes.remove(call.sim, volid, call.node)
        job.say(f"Removed volume '{volid}'")

    owner = volume.vmid if volume is not None and is_guests else None
    task_id = f"{owner}@{storage.name}" if owner is not None else storage.name
    return call.sim.tasks.start(
        node=call.node, kind="imgdel", id=task_id, user=call.identity.authid, worker=worker
    )


@route("POST", "/storage")
async def create_definition(call: Call) -> Any:
    name, kind = str(call.params["storage"]), str(call.params["type"])
    if name in call.sim.world.storages:
        raise PveError(f"create storage failed: storage ID '{name}' already defined")
    content = str(call.params.get("content", "images")).split(",")
    nodes = call.params.get("nodes")
    call.sim.world.storages[name] = Storage(
        name,
        kind,
        content,
        DEFAULT_SIZE,
        path=str(call.params.get("path", "")),
        shared=bool(call.params.get("shared")) or kind in SHARED_TYPES,
        nodes=str(nodes).split(",") if nodes else None,
        is_enabled=not call.params.get("disable"),
    )
    return {"storage": name, "type": kind}


@route("DELETE", "/storage/{storage}")
async def delete_definition(call: Call) -> Any:
    """Forgets the definition; the volumes stay where they are."""
    storage = call.sim.world.storage(str(call.params["storage"]))
    del call.sim.world.storages[storage.name]
    return None
