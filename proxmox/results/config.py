"""A VM's configuration, taken apart into what Izvor reads of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote

from proxmox.results._read import (
    Row,
    flag,
    integer,
    properties,
    row,
    size_bytes,
    text,
    words,
)

_DISK_KEY = re.compile(r"(scsi|virtio|sata|ide)\d+|efidisk0|tpmstate0")
_NIC_KEY = re.compile(r"net(\d+)")
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")
_BOOT_BUSES = ("scsi", "virtio", "sata", "ide")
_CLOUDINIT = re.compile(r"(^|/)(vm-\d+-)?cloudinit(\.|$)")
_NO_BOOT_DISKS = ("efidisk0", "tpmstate0")


@dataclass(frozen=True, slots=True)
class Nic:
    """`netN`; `mac` in upper case as Proxmox writes it, `vlan` its tag."""

    index: int
    model: str
    mac: str | None
    bridge: str | None
    vlan: int | None

    @classmethod
    def from_api(cls, key: str, value: str) -> Nic:
        parts = properties(value, "model")
        # The model's name is the key under which the MAC stands: `virtio=BC:24:11:…`.
        model, mac = next(
            (
                (name, mac.upper())
                for name, mac in parts.items()
                if name != "macaddr" and _MAC.fullmatch(mac)
            ),
            (parts.get("model", "virtio"), None),
        )
        tag = parts.get("tag", "")
        return cls(
            index=int(key.removeprefix("net")),
            model=model,
            mac=parts["macaddr"].upper() if "macaddr" in parts else mac,
            bridge=parts.get("bridge"),
            vlan=int(tag) if tag.isdigit() else None,
        )


@dataclass(frozen=True, slots=True)
class Disk:
    """A drive; `storage` is None for what is not on one (`none`, a host's own device)."""

    key: str
    storage: str | None
    volume: str
    size_bytes: int | None
    is_cdrom: bool
    is_cloudinit: bool

    @classmethod
    def from_api(cls, key: str, value: str) -> Disk:
        parts = properties(value, "file")
        volume = parts.get("file", "")
        storage, colon, path = volume.partition(":")
        return cls(
            key=key,
            storage=storage if colon and not volume.startswith("/") else None,
            volume=volume,
            size_bytes=size_bytes(parts.get("size")),
            is_cdrom=parts.get("media") == "cdrom" or volume in ("none", "cdrom"),
            is_cloudinit=bool(colon and _CLOUDINIT.search(path)),
        )


@dataclass(frozen=True, slots=True)
class GuestConfig:
    """`memory_mib` is the maximum; `sshkeys` is decoded text, one key a line.

    `raw` holds every option as Proxmox gave it, for what has no field of its own; it cannot hold a
    password (Proxmox shows stars).
    """

    name: str | None
    description: str
    memory_mib: int
    cores: int
    sockets: int
    tags: frozenset[str]
    smbios_uuid: str | None
    digest: str | None
    lock: str | None
    is_template: bool
    agent_enabled: bool
    boot: str | None
    protection: bool
    ostype: str | None
    ciuser: str | None
    ipconfig0: str | None
    nameserver: str | None
    searchdomain: str | None
    sshkeys: str | None
    nics: tuple[Nic, ...]
    disks: tuple[Disk, ...]
    raw: Mapping[str, object] = field(repr=False)

    @classmethod
    def from_api(cls, data: object) -> GuestConfig:
        fields = row(data)
        sshkeys = text(fields, "sshkeys")
        memory = properties(fields.get("memory"), "current")
        return cls(
            name=text(fields, "name"),
            description=str(fields.get("description") or ""),
            memory_mib=int(memory.get("current", 512)),
            cores=integer(fields, "cores", 1),
            sockets=integer(fields, "sockets", 1),
            tags=words(fields.get("tags")),
            smbios_uuid=properties(fields.get("smbios1")).get("uuid"),
            digest=text(fields, "digest"),
            lock=text(fields, "lock"),
            is_template=flag(fields, "template"),
            agent_enabled=flag(properties(fields.get("agent"), "enabled"), "enabled"),
            boot=text(fields, "boot"),
            protection=flag(fields, "protection"),
            ostype=text(fields, "ostype"),
            ciuser=text(fields, "ciuser"),
            ipconfig0=text(fields, "ipconfig0"),
            nameserver=text(fields, "nameserver"),
            searchdomain=text(fields, "searchdomain"),
            sshkeys=unquote(sshkeys) if sshkeys else None,
            nics=_nics(fields),
            disks=_disks(fields),
            raw=MappingProxyType(dict(fields)),
        )

    @property
    def boot_disk(self) -> Disk | None:
        """The first hard disk of the boot order; without an order (or with one that names none),
        the first hard disk by bus and number."""
        hard = {
            disk.key: disk
            for disk in self.disks
            if not disk.is_cdrom and not disk.is_cloudinit and disk.key not in _NO_BOOT_DISKS
        }
        order = properties(self.boot).get("order", "")
        legacy = text(self.raw, "bootdisk")
        for key in (*order.split(";"), legacy):
            if key in hard:
                return hard[key]
        return next(iter(hard.values()), None)


def _nics(fields: Row) -> tuple[Nic, ...]:
    nics = (
        Nic.from_api(key, str(value)) for key, value in fields.items() if _NIC_KEY.fullmatch(key)
    )
    return tuple(sorted(nics, key=lambda nic: nic.index))


def _disks(fields: Row) -> tuple[Disk, ...]:
    disks = (
        Disk.from_api(key, str(value)) for key, value in fields.items() if _DISK_KEY.fullmatch(key)
    )
    return tuple(sorted(disks, key=_disk_order))


def _disk_order(disk: Disk) -> tuple[int, int]:
    bus = disk.key.rstrip("0123456789")
    rank = _BOOT_BUSES.index(bus) if bus in _BOOT_BUSES else len(_BOOT_BUSES)
    return rank, int(disk.key[len(bus) :])
