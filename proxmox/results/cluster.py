"""The cluster as a whole: version, members, and the one cheap list of everything."""

from __future__ import annotations

from dataclasses import dataclass

from proxmox.results._read import (
    Row,
    flag,
    integer,
    name,
    number,
    optional_integer,
    row,
    rows,
    text,
    words,
)


@dataclass(frozen=True, slots=True)
class Version:
    release: str
    version: str
    repoid: str | None
    major: int
    minor: int

    @classmethod
    def from_api(cls, data: object) -> Version:
        fields = row(data)
        version = name(fields, "version")
        major, minor = (int(part) for part in (*version.split("-")[0].split("."), "0")[:2])
        return cls(
            release=text(fields, "release") or version,
            version=version,
            repoid=text(fields, "repoid"),
            major=major,
            minor=minor,
        )


@dataclass(frozen=True, slots=True)
class ClusterNode:
    name: str
    is_online: bool
    is_local: bool
    ip: str | None

    @classmethod
    def from_api(cls, data: object) -> ClusterNode:
        fields = row(data)
        return cls(
            name=name(fields, "name"),
            is_online=flag(fields, "online"),
            is_local=flag(fields, "local"),
            ip=text(fields, "ip"),
        )


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """`name` and `version` are None on a standalone node, which has no quorum to lose."""

    name: str | None
    is_quorate: bool
    nodes: tuple[ClusterNode, ...]
    version: int | None

    @classmethod
    def from_api(cls, data: object) -> ClusterStatus:
        items = rows(data)
        cluster = next((item for item in items if item.get("type") == "cluster"), None)
        return cls(
            name=text(cluster, "name") if cluster else None,
            is_quorate=flag(cluster, "quorate") if cluster else True,
            nodes=tuple(ClusterNode.from_api(item) for item in items if item.get("type") == "node"),
            version=optional_integer(cluster, "version") if cluster else None,
        )


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """A node as the lists show it; the numbers of one that is offline or unseen are 0."""

    name: str
    is_online: bool
    status: str
    cores: int
    cpu_fraction: float
    memory_bytes: int
    memory_used_bytes: int
    disk_bytes: int
    disk_used_bytes: int
    uptime_s: int
    ssl_fingerprint: str | None

    @classmethod
    def from_api(cls, data: object) -> NodeUsage:
        fields = row(data)
        status = text(fields, "status") or "unknown"
        return cls(
            name=name(fields, "node"),
            is_online=status == "online",
            status=status,
            cores=integer(fields, "maxcpu"),
            cpu_fraction=number(fields, "cpu"),
            memory_bytes=integer(fields, "maxmem"),
            memory_used_bytes=integer(fields, "mem"),
            disk_bytes=integer(fields, "maxdisk"),
            disk_used_bytes=integer(fields, "disk"),
            uptime_s=integer(fields, "uptime"),
            ssl_fingerprint=text(fields, "ssl_fingerprint"),
        )


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node asked directly."""

    cores: int
    sockets: int
    cpu_model: str | None
    cpu_fraction: float
    load_average: tuple[float, ...]
    memory_bytes: int
    memory_used_bytes: int
    disk_bytes: int
    disk_used_bytes: int
    uptime_s: int
    pve_version: str | None
    kernel: str | None

    @classmethod
    def from_api(cls, data: object) -> NodeStatus:
        fields = row(data)
        cpu, memory, disk = (row(fields.get(key) or {}) for key in ("cpuinfo", "memory", "rootfs"))
        return cls(
            cores=integer(cpu, "cpus"),
            sockets=integer(cpu, "sockets", 1),
            cpu_model=text(cpu, "model"),
            cpu_fraction=number(fields, "cpu"),
            load_average=tuple(float(part) for part in fields.get("loadavg") or ()),
            memory_bytes=integer(memory, "total"),
            memory_used_bytes=integer(memory, "used"),
            disk_bytes=integer(disk, "total"),
            disk_used_bytes=integer(disk, "used"),
            uptime_s=integer(fields, "uptime"),
            pve_version=text(fields, "pveversion"),
            kernel=text(fields, "kversion"),
        )


@dataclass(frozen=True, slots=True)
class GuestUsage:
    """A VM as the lists show it: up to 10 s old, `lock` and `tags` excepted, which are current.

    A guest of a node that is silent for 5 minutes has no name, template mark or sizes, and the
    status `unknown`.
    """

    vmid: int
    node: str
    name: str | None
    status: str
    is_template: bool
    lock: str | None
    tags: frozenset[str]
    cores: int
    memory_bytes: int
    memory_used_bytes: int
    disk_bytes: int
    cpu_fraction: float
    uptime_s: int
    disk_read_bytes: int
    disk_write_bytes: int
    net_in_bytes: int
    net_out_bytes: int
    ha_state: str | None
    pool: str | None

    @classmethod
    def from_api(cls, data: object, *, node: str | None = None) -> GuestUsage:
        """`node` fills in what a node's own list leaves out."""
        fields = row(data)
        return cls(
            vmid=int(name(fields, "vmid")),
            node=node or name(fields, "node"),
            name=text(fields, "name"),
            status=text(fields, "status") or "unknown",
            is_template=flag(fields, "template"),
            lock=text(fields, "lock"),
            tags=words(fields.get("tags")),
            cores=integer(fields, "maxcpu", integer(fields, "cpus")),
            memory_bytes=integer(fields, "maxmem"),
            memory_used_bytes=integer(fields, "mem"),
            disk_bytes=integer(fields, "maxdisk"),
            cpu_fraction=number(fields, "cpu"),
            uptime_s=integer(fields, "uptime"),
            disk_read_bytes=integer(fields, "diskread"),
            disk_write_bytes=integer(fields, "diskwrite"),
            net_in_bytes=integer(fields, "netin"),
            net_out_bytes=integer(fields, "netout"),
            ha_state=text(fields, "hastate"),
            pool=text(fields, "pool"),
        )


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """A storage as one node sees it; a shared one appears once for each node."""

    storage: str
    node: str
    is_shared: bool
    plugin_type: str
    content: frozenset[str]
    total_bytes: int
    used_bytes: int
    is_available: bool

    @classmethod
    def from_api(cls, data: object, *, node: str | None = None) -> StorageUsage:
        """Reads both a row of `/cluster/resources` and one of a node's own list (with `node`)."""
        fields = row(data)
        return cls(
            storage=name(fields, "storage"),
            node=node or name(fields, "node"),
            is_shared=flag(fields, "shared"),
            plugin_type=text(fields, "plugintype" if node is None else "type") or "unknown",
            content=words(fields.get("content")),
            total_bytes=integer(fields, "maxdisk" if node is None else "total"),
            used_bytes=integer(fields, "disk" if node is None else "used"),
            is_available=_is_available(fields, is_own_list=node is not None),
        )


def _is_available(fields: Row, *, is_own_list: bool) -> bool:
    if is_own_list:
        return flag(fields, "active") and flag(fields, "enabled", default=True)
    return fields.get("status") == "available"


@dataclass(frozen=True, slots=True)
class Resources:
    """`/cluster/resources`: nodes, VMs (containers are left out) and storages, sorted."""

    nodes: tuple[NodeUsage, ...]
    guests: tuple[GuestUsage, ...]
    storages: tuple[StorageUsage, ...]

    @classmethod
    def from_api(cls, data: object) -> Resources:
        items: dict[object, list[Row]] = {}
        for item in rows(data):
            items.setdefault(item.get("type"), []).append(item)
        nodes = (NodeUsage.from_api(item) for item in items.get("node", ()))
        guests = (GuestUsage.from_api(item) for item in items.get("qemu", ()))
        storages = (StorageUsage.from_api(item) for item in items.get("storage", ()))
        return cls(
            nodes=tuple(sorted(nodes, key=lambda node: node.name)),
            guests=tuple(sorted(guests, key=lambda guest: guest.vmid)),
            storages=tuple(sorted(storages, key=lambda each: (each.storage, each.node))),
        )
