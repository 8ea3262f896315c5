"""What lies on a storage, and what a node's network offers."""

from __future__ import annotations

from dataclasses import dataclass

from proxmox.results._read import flag, integer, name, optional_integer, row, text


@dataclass(frozen=True, slots=True)
class StorageContent:
    """A volume. `created_at` is in Unix seconds; `vmid` is the guest in whose name it lies."""

    volid: str
    content: str
    format: str | None
    size_bytes: int
    vmid: int | None
    created_at: int | None

    @classmethod
    def from_api(cls, data: object) -> StorageContent:
        fields = row(data)
        return cls(
            volid=name(fields, "volid"),
            content=text(fields, "content") or "unknown",
            format=text(fields, "format"),
            size_bytes=integer(fields, "size"),
            vmid=optional_integer(fields, "vmid"),
            created_at=optional_integer(fields, "ctime"),
        )


@dataclass(frozen=True, slots=True)
class Bridge:
    """What a VM's network card can be plugged into: `type` is `bridge`, `OVSBridge` or `vnet`."""

    name: str
    is_active: bool
    type: str
    comment: str

    @classmethod
    def from_api(cls, data: object) -> Bridge:
        fields = row(data)
        kind = name(fields, "type")
        return cls(
            name=name(fields, "iface"),
            # A vnet belongs to the cluster's SDN and carries no state of this node.
            is_active=flag(fields, "active", default=kind == "vnet"),
            type=kind,
            comment=(text(fields, "comments") or "").strip(),
        )
