"""The rights that Izvor needs in Proxmox, for what, and which of them are missing.

docs/proxmox.md gives the same list as commands; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Need:
    """`since` and `before` are major versions of Proxmox VE; `only_for` names what works not
    without it, where all else does."""

    privilege: str
    path: str
    what_for: str
    since: int = 0
    before: int = 99
    only_for: str = ""


NEEDS = (
    Need("Sys.Audit", "/", "see nodes, and the tasks of others, such as a reboot's second half"),
    Need("VM.Audit", "/vms", "see VMs"),
    Need("VM.Allocate", "/vms", "make and delete VMs, and templates of them"),
    Need("VM.Clone", "/vms", "make VMs from templates"),
    Need("VM.Config.CDROM", "/vms", "attach ISO images"),
    Need("VM.Config.CPU", "/vms", "set cores"),
    Need("VM.Config.Cloudinit", "/vms", "set cloud-init"),
    Need("VM.Config.Disk", "/vms", "grow disks"),
    Need("VM.Config.HWType", "/vms", "set hardware"),
    Need("VM.Config.Memory", "/vms", "set memory"),
    Need("VM.Config.Network", "/vms", "put VMs on bridges"),
    Need("VM.Config.Options", "/vms", "set names, tags and descriptions"),
    Need("VM.PowerMgmt", "/vms", "start and stop VMs"),
    Need("VM.Snapshot", "/vms", "take snapshots, roll back", only_for="snapshots"),
    Need("VM.Migrate", "/vms", "move VMs between nodes", only_for="migration"),
    Need("VM.Console", "/vms", "show screens", only_for="the console"),
    Need("VM.Monitor", "/vms", "read addresses from the guest agent", before=9),
    Need("VM.GuestAgent.Audit", "/vms", "read addresses from the guest agent", since=9),
    Need("Datastore.Audit", "/storage", "see storages"),
    Need("Datastore.AllocateSpace", "/storage", "give VMs disks"),
    Need(
        "Datastore.AllocateTemplate",
        "/storage",
        "upload and download images",
        only_for="user-data and templates from URLs",
    ),
    Need(
        "Datastore.Allocate",
        "/storage",
        "delete the images that it brought there",
        only_for="user-data and templates from URLs",
    ),
    Need(
        "Sys.AccessNetwork",
        "/nodes",
        "let nodes download images",
        since=8,
        only_for="templates from URLs",
    ),
    Need("SDN.Use", "/sdn/zones", "put VMs on bridges", since=8),
)


@dataclass(frozen=True)
class Lack:
    """`where` are the places below `need.path` that have the privilege all the same."""

    need: Need
    where: tuple[str, ...]

    def __str__(self) -> str:
        need = self.need
        only = f" (only for {need.only_for})" if need.only_for else ""
        if self.where:
            places = ", ".join(self.where[:5])
            return (
                f"{need.privilege} only on {places}, not on {need.path}: to {need.what_for}{only}"
            )
        return f"{need.privilege} on {need.path} is missing: to {need.what_for}{only}"


def needs_of(major: int) -> list[Need]:
    return [need for need in NEEDS if need.since <= major < need.before]


def lacking(granted: Mapping[str, frozenset[str]], major: int) -> list[Lack]:
    """`granted` is Proxmox's own answer: privileges by path, as they come down to it."""
    return [
        Lack(need, places_below(granted, need))
        for need in needs_of(major)
        if need.privilege not in held_on(granted, need.path)
    ]


def held_on(granted: Mapping[str, frozenset[str]], path: str) -> frozenset[str]:
    """What is listed for the path itself, else for the nearest one above it."""
    while path not in granted:
        if path == "/":
            return frozenset()
        path = path.rpartition("/")[0] or "/"
    return granted[path]


def places_below(granted: Mapping[str, frozenset[str]], need: Need) -> tuple[str, ...]:
    below = need.path.rstrip("/") + "/"
    return tuple(
        sorted(
            path
            for path, names in granted.items()
            if path.startswith(below) and need.privilege in names
        )
    )
