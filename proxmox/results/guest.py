"""One VM: its state, what a change to it waits for, its snapshots, addresses and console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from proxmox.endpoints import Endpoint
from proxmox.results._read import (
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
class GuestStatus:
    """`status/current`: the truth about one VM.

    `status` is `running` for a paused VM too, which only `qmp_status` tells; a VM suspended to disk
    is `stopped` with the lock `suspended`.
    """

    vmid: int
    status: str
    qmp_status: str | None
    lock: str | None
    name: str | None
    is_template: bool
    tags: frozenset[str]
    uptime_s: int
    cores: int
    memory_bytes: int
    disk_bytes: int
    agent_enabled: bool
    ha_managed: bool
    pid: int | None
    cpu_fraction: float
    memory_used_bytes: int
    disk_read_bytes: int
    disk_write_bytes: int
    net_in_bytes: int
    net_out_bytes: int

    @classmethod
    def from_api(cls, data: object) -> GuestStatus:
        fields = row(data)
        return cls(
            vmid=int(name(fields, "vmid")),
            status=name(fields, "status"),
            qmp_status=text(fields, "qmpstatus"),
            lock=text(fields, "lock"),
            name=text(fields, "name"),
            is_template=flag(fields, "template"),
            tags=words(fields.get("tags")),
            uptime_s=integer(fields, "uptime"),
            cores=integer(fields, "cpus"),
            memory_bytes=integer(fields, "maxmem"),
            disk_bytes=integer(fields, "maxdisk"),
            agent_enabled=flag(fields, "agent"),
            ha_managed=flag(row(fields.get("ha") or {}), "managed"),
            pid=optional_integer(fields, "pid"),
            cpu_fraction=number(fields, "cpu"),
            memory_used_bytes=integer(fields, "mem"),
            disk_read_bytes=integer(fields, "diskread"),
            disk_write_bytes=integer(fields, "diskwrite"),
            net_in_bytes=integer(fields, "netin"),
            net_out_bytes=integer(fields, "netout"),
        )

    @property
    def is_paused(self) -> bool:
        """Up, but its CPUs stand still (`suspended` is QEMU's word for a sleeping guest)."""
        return self.status == "running" and self.qmp_status in ("paused", "suspended", "prelaunch")

    @property
    def is_running(self) -> bool:
        return self.status == "running" and not self.is_paused

    @property
    def is_stopped(self) -> bool:
        return self.status == "stopped"


@dataclass(frozen=True, slots=True)
class PendingOption:
    """An option that takes effect at the next start: `pending` its value then, or deletion."""

    key: str
    value: str | None
    pending: str | None
    is_deleted: bool

    @classmethod
    def from_api(cls, data: object) -> PendingOption:
        fields = row(data)
        return cls(
            key=name(fields, "key"),
            value=text(fields, "value"),
            pending=text(fields, "pending"),
            is_deleted=flag(fields, "delete"),
        )

    @property
    def is_pending(self) -> bool:
        return self.pending is not None or self.is_deleted


@dataclass(frozen=True, slots=True)
class Feature:
    """Whether the VM's storages can do it, and on which other nodes."""

    is_available: bool
    nodes: frozenset[str]

    @classmethod
    def from_api(cls, data: object) -> Feature:
        fields = row(data)
        nodes = fields.get("nodes") or ()
        return cls(
            is_available=flag(fields, "hasFeature"), nodes=frozenset(str(node) for node in nodes)
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`is_current` marks the pseudo-snapshot `current`, the present state, always in the list;
    its `parent` is the snapshot that the VM stands on. `created_at` is in Unix seconds."""

    name: str
    description: str
    parent: str | None
    created_at: int | None
    has_ram: bool
    is_current: bool

    @classmethod
    def from_api(cls, data: object) -> Snapshot:
        fields = row(data)
        return cls(
            name=name(fields, "name"),
            description=text(fields, "description") or "",
            parent=text(fields, "parent"),
            created_at=optional_integer(fields, "snaptime"),
            has_ram=flag(fields, "vmstate"),
            is_current=fields["name"] == "current",
        )


@dataclass(frozen=True, slots=True)
class Address:
    ip: str
    prefix: int
    family: Literal[4, 6]

    @classmethod
    def from_api(cls, data: object) -> Address:
        fields = row(data)
        return cls(
            ip=name(fields, "ip-address"),
            prefix=integer(fields, "prefix"),
            family=6 if fields.get("ip-address-type") == "ipv6" else 4,
        )


@dataclass(frozen=True, slots=True)
class AgentInterface:
    """A network interface as the guest agent sees it; `mac` in lower case, None where it has
    none."""

    name: str
    mac: str | None
    addresses: tuple[Address, ...]

    @classmethod
    def from_api(cls, data: object) -> AgentInterface:
        fields = row(data)
        mac = text(fields, "hardware-address")
        return cls(
            name=name(fields, "name"),
            mac=mac.lower() if mac else None,
            addresses=tuple(
                Address.from_api(item) for item in rows(fields.get("ip-addresses") or [])
            ),
        )


@dataclass(frozen=True, slots=True)
class VncTicket:
    """What opens a VM's screen, once, within 10 s, at the endpoint that gave it.

    Open the websocket `path` (percent-encoded, with its query) there, sending `headers`: the ticket
    is bound to the identity that asked. `password` answers the VNC challenge within. `address` is
    the machine that answered, as the endpoint's name may stand for several. See `open_screen`.
    """

    ticket: str = field(repr=False)
    port: int
    password: str = field(repr=False)
    user: str
    endpoint: Endpoint
    address: str
    path: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
