"""The simulated cluster's state: plain data, no behaviour beyond looking things up.

Sizes are bytes, moments unix seconds. A storage's volumes are kept once for a shared storage and
once a node for a local one; `World.volumes_of` hides the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from .errors import PveError

Config = dict[str, Any]

GIB = 1024**3
MIB = 1024**2


@dataclass(slots=True)
class Node:
    name: str
    ip: str
    nodeid: int
    booted_at: float
    cpus: int = 16
    memory: int = 64 * GIB
    root_size: int = 94 * GIB
    root_used: int = 9 * GIB
    is_online: bool = True
    silent_since: float | None = None
    bridges: list[Config] = field(default_factory=list)
    nic: str = "eno1"


@dataclass(slots=True)
class Volume:
    """A disk, image or backup. `data` is what a copy must move (bytes that are not holes).

    `system` tells what boots from it: "" nothing (a blank disk), "linux" a guest that brings up
    the agent and obeys a shutdown. `payload` keeps what was uploaded, so that it can be read back.
    """

    volid: str
    content: str
    format: str
    size: int
    used: int
    ctime: int
    vmid: int | None = None
    parent: str | None = None
    data: int = 0
    system: str = ""
    notes: str | None = None
    payload: bytes | None = None


@dataclass(slots=True)
class Storage:
    name: str
    type: str
    content: list[str]
    size: int
    path: str = ""
    shared: bool = False
    nodes: list[str] | None = None
    is_enabled: bool = True
    base_used: int = 0
    offline_nodes: set[str] = field(default_factory=set)
    copy_bytes_s: float = 410 * MIB
    allocate_s: float = 0.12
    free_s: float = 0.05
    options: Config = field(default_factory=dict)


@dataclass(slots=True)
class Snapshot:
    name: str
    config: Config
    taken_at: int
    description: str
    parent: str | None
    has_ram: bool


@dataclass(slots=True)
class Guest:
    """A VM. `config` holds what its file holds; `pending` what waits for the next start."""

    vmid: int
    node: str
    config: Config
    pending: Config = field(default_factory=dict)
    pending_delete: set[str] = field(default_factory=set)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    parent: str | None = None
    is_running: bool = False
    is_paused: bool = False
    booted_at: float = 0.0
    os_started_at: float = 0.0
    pid: int = 0
    running_config: Config = field(default_factory=dict)
    cloudinit_seen: Config = field(default_factory=dict)
    is_agent_dead: bool = False
    is_deaf: bool = False
    agent_processes: dict[int, list[Any]] = field(default_factory=dict)

    @property
    def lock(self) -> str | None:
        return self.config.get("lock")

    @property
    def is_template(self) -> bool:
        return bool(self.config.get("template"))

    @property
    def name(self) -> str:
        return str(self.config.get("name", f"VM {self.vmid}"))


@dataclass(slots=True)
class TaskRecord:
    """A task as the task list shows it. `exitstatus` is None while it runs."""

    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    endtime: int | None = None
    exitstatus: str | None = None
    log: list[str] = field(default_factory=list)
    warnings: int = 0

    @property
    def is_running(self) -> bool:
        return self.exitstatus is None


@dataclass(slots=True)
class Pool:
    name: str
    comment: str = ""
    vms: set[int] = field(default_factory=set)
    storages: set[str] = field(default_factory=set)


@dataclass(slots=True)
class HaResource:
    vmid: int
    state: str = "started"
    group: str | None = None
    comment: str | None = None
    max_restart: int = 1
    max_relocate: int = 1


@dataclass
class World:
    cluster_name: str
    is_clustered: bool
    nodes: dict[str, Node] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    volumes: dict[tuple[str, str], dict[str, Volume]] = field(default_factory=dict)
    guests: dict[int, Guest] = field(default_factory=dict)
    tasks: dict[str, TaskRecord] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    ha: dict[int, HaResource] = field(default_factory=dict)
    next_pid: int = 6000
    has_quorum: bool = True

    def node(self, name: str) -> Node:
        if name not in self.nodes:
            raise PveError(
                f"hostname lookup '{name}' failed - failed to get address info for: "
                f"{name}: Name or service not known"
            )
        return self.nodes[name]

    def guest(self, node: str, vmid: int) -> Guest:
        """The guest as its node sees it: a VM of another node does not exist here."""
        guest = self.guests.get(vmid)
        if guest is None or guest.node != node:
            raise PveError(
                f"Configuration file 'nodes/{node}/qemu-server/{vmid}.conf' does not exist"
            )
        return guest

    def guest_in_cluster(self, node: str, vmid: int) -> Guest:
        """As `guest`, with the text of those calls that look the VM up in the cluster's list."""
        guest = self.guests.get(vmid)
        if guest is None or guest.node != node:
            raise PveError(f"unable to find configuration file for VM {vmid} on node '{node}'")
        return guest

    def storage(self, name: str) -> Storage:
        if name not in self.storages:
            raise PveError(f"storage '{name}' does not exist")
        return self.storages[name]

    def storage_on(self, name: str, node: str) -> Storage:
        """The storage, if `node` has it and it is enabled there."""
        storage = self.storage(name)
        if not storage.is_enabled:
            raise PveError(f"storage '{name}' is disabled")
        if storage.nodes is not None and node not in storage.nodes:
            raise PveError(f"storage '{name}' is not available on node '{node}'")
        return storage

    def storages_of(self, node: str) -> Iterator[Storage]:
        for storage in self.storages.values():
            if storage.nodes is None or node in storage.nodes:
                yield storage

    def volumes_of(self, storage: Storage, node: str) -> dict[str, Volume]:
        key = (storage.name, "" if storage.shared else node)
        return self.volumes.setdefault(key, {})

    def find_volume(self, volid: str, node: str) -> Volume | None:
        storage = self.storages.get(volid.split(":", 1)[0])
        return self.volumes_of(storage, node).get(volid) if storage else None

    def used_bytes(self, storage: Storage, node: str) -> int:
        return storage.base_used + sum(v.used for v in self.volumes_of(storage, node).values())

    def free_vmid(self, lower: int = 100) -> int:
        vmid = lower
        while vmid in self.guests:
            vmid += 1
        return vmid

    def allocate_pid(self) -> int:
        self.next_pid = 1000 + (self.next_pid - 1000 + 1) % 4_000_000
        return self.next_pid
