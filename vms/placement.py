"""On which node a new VM goes: filters first, each with its reason, then the most free memory."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.utils import timezone

from accounts.prepared import Prepared, Slot
from accounts.sql import ask, in_one_go, lock
from clusters.models import ONLINE, UNREACHABLE, Cluster, Network, Node, Storage
from operations.refusals import Conflict, InvalidInput, Refusal, Unavailable
from vms.models import GIB, MIB, RUNNING, VirtualMachine

LOST_AFTER = datetime.timedelta(minutes=1)
# How many allocations a storage takes at once by default, by its plugin. Proxmox serialises them
# cluster-wide on shared storage and lets the rest time out.
STORAGE_LANES = {"dir": 2, "nfs": 1, "cifs": 1, "lvm": 2, "lvmthin": 4, "zfspool": 4, "rbd": 6}
NODE_LANE = 8
LANE_KINDS = ("node", "storage")


CLUSTERS = Prepared(lambda: Cluster.objects.filter(name=Slot("name"), is_enabled=True).order_by())


def find_cluster(name: str) -> Cluster:
    """One that can be asked. Raises InvalidInput, Unavailable."""
    cluster = CLUSTERS.first(name=name)
    if cluster is None:
        raise InvalidInput("cluster", f"There is no cluster {name!r}.", code="cluster_not_found")
    check_online(cluster)
    return cluster


def askable_clusters() -> list[Cluster]:
    return [c for c in Cluster.objects.filter(is_enabled=True) if not is_lost(c)]


def is_lost(cluster: Cluster) -> bool:
    """Not worth asking. One failed look says little: within a minute, Proxmox itself is asked."""
    if cluster.state == ONLINE:
        return False
    seen = cluster.seen_at
    return cluster.state != UNREACHABLE or seen is None or timezone.now() - seen > LOST_AFTER


def check_online(cluster: Cluster) -> None:
    """Raises Unavailable when it has not answered for a while."""
    if is_lost(cluster):
        why = f": {cluster.error}" if cluster.error else "."
        raise Unavailable("cluster_unavailable", f"Cluster {cluster} is {cluster.state}{why}")


@dataclass(frozen=True)
class Need:
    """What a VM asks of its node."""

    memory_mib: int
    # Bytes to be allocated on the first of `storages`; a linked clone allocates none yet.
    disk_bytes: int
    # Where its disks will lie: all of them must be there.
    storages: tuple[str, ...] = ()
    # … or on these nodes, others: by node, for who is cloned from what is there.
    storages_at: tuple[tuple[str, tuple[str, ...]], ...] = ()
    # … or wherever the node has room for a new disk.
    picks_storage: bool = False
    # The one node it must be, and why; "": any that can take it.
    node: str = ""
    node_because: str = "asked for"
    network: str = ""
    # None starts a VM with more than it has itself.
    cores: int = 0
    # The only nodes that can take it, and the reason against the others; empty: any can.
    only_on: tuple[str, ...] = ()
    only_because: str = ""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Need:
        """From what `dataclasses.asdict` made of it, stored and read again."""
        lists: dict[str, Any] = {name: tuple(values[name]) for name in ("storages", "only_on")}
        at = values.get("storages_at", [])
        lists["storages_at"] = tuple((node, tuple(storages)) for node, storages in at)
        return cls(**{**values, **lists})


@dataclass(frozen=True)
class Placement:
    """The chosen node and why; `rejected` says of the others what spoke against them."""

    node: str
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)
    # Where its disks will lie there.
    storages: tuple[str, ...] = ()


# Ordered as far as it is seen; by default they are by their cluster first.
NODES = Prepared(
    lambda: Node.objects.filter(cluster=Slot("cluster"), missing_since=None).order_by("name")
)
STORAGES = Prepared(
    lambda: Storage.objects.filter(cluster=Slot("cluster"), missing_since=None).order_by()
)
BRIDGES = Prepared(
    lambda: Network.objects.filter(cluster=Slot("cluster")).only("node", "name").order_by()
)
# MiB by node: of VMs that run or are worked on, and of the latter alone.
PROMISED = """
    SELECT node, sum(memory_mib),
        coalesce(sum(memory_mib) FILTER (WHERE power <> %(running)s), 0)
    FROM vms_virtualmachine
    WHERE cluster_id = %(cluster)s AND deleted_at IS NULL AND (power = %(running)s OR doing <> '')
    GROUP BY node
"""


def choose_alone(cluster: Cluster) -> None:
    """Let no other request choose on this cluster until this transaction is over; whoever needs a
    project's `Headroom` too takes that first.

    Each then sees in its `Capacity` what the others have placed: fifty at once do not all choose
    the same node.
    """
    lock(f"placement:{cluster.pk}")


class Capacity:
    """What a cluster's nodes have left, read once; what is chosen here is counted at once."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        with in_one_go():
            nodes = NODES.ask(cluster=cluster.pk)
            storages = STORAGES.ask(cluster=cluster.pk)
            bridges = BRIDGES.ask(cluster=cluster.pk)
            promised = ask(PROMISED, {"cluster": cluster.pk, "running": RUNNING}, prepare=True)
            self.nodes = {node.name: node for node in nodes()}
            self.storages = {(one.node, one.name): one for one in storages()}
            self.bridges: dict[str, set[str]] = defaultdict(set)
            for bridge in bridges():
                self.bridges[bridge.node].add(bridge.name)
            self.free_memory = free_memory(self.nodes, promised())

    def choose(self, need: Need) -> Placement:
        """The node for a VM that needs this much.

        Raises InvalidInput when what was asked for does not exist, Conflict when no node can
        take the VM.
        """
        self._check_existence(need)
        rejected = {name: why for name in self.nodes if (why := self.objection(name, need))}
        if need.node in rejected:
            raise Conflict(
                "node_unsuitable",
                f"Node {need.node} cannot take it: {rejected[need.node]}.",
                field="node",
            )
        left = [name for name in self.nodes if name not in rejected]
        if not left:
            why = "; ".join(f"{name}: {reason}" for name, reason in sorted(rejected.items()))
            raise Conflict("no_node", f"No node can take it ({why or 'no node is known yet'}).")
        node, reason = self._best(left, need)
        storages = self._storages_on(node, need)
        self._count(node, storages, need)
        return Placement(node, reason, rejected, storages)

    def bridge_of(self, node: str) -> str:
        """Where a card is plugged in when nobody says: a Proxmox installation makes `vmbr0`."""
        known = self.bridges[node]
        return "vmbr0" if "vmbr0" in known or not known else min(known)

    def lanes(self, node: str, storages: Iterable[str]) -> list[tuple[str, int]]:
        """Where heavy work queues, with default limits: its node, each storage it allocates on."""
        lanes = [(f"node:{node}", NODE_LANE)]
        for name in storages:
            storage = self.storages.get((node, name))
            if storage is not None:
                where = name if storage.is_shared else f"{name}@{node}"
                lanes.append((f"storage:{where}", STORAGE_LANES.get(storage.kind, 2)))
        return lanes

    def _best(self, left: list[str], need: Need) -> tuple[str, str]:
        if need.node:
            return need.node, need.node_because
        if self.cluster.preferred_node in left:
            return self.cluster.preferred_node, "preferred (PROXMOX_NODE)"
        best = max(left, key=lambda name: (self.free_memory[name], name))
        return best, f"most free memory ({self.free_memory[best] // MIB} MiB)"

    def best_storage(self, node: str, needed_bytes: int, content: str = "images") -> Storage | None:
        """Where something new goes when nobody says: on shared storage if there is some, since a VM
        there outlives its node and moves without copying; then where most is free."""
        able = [
            storage
            for (place, _), storage in self.storages.items()
            if place == node and not trouble_with(storage, needed_bytes, content)
        ]
        return max(able, key=lambda s: (s.is_shared, free_bytes(s), s.name), default=None)

    def _storages_on(self, node: str, need: Need) -> tuple[str, ...]:
        if not need.picks_storage:
            return dict(need.storages_at).get(node, need.storages)
        best = self.best_storage(node, need.disk_bytes)
        return (best.name,) if best else ()

    @contextmanager
    def given_back_unless_taken(self, placement: Placement, need: Need) -> Iterator[None]:
        """What was counted for it counts no more when something else is refused."""
        try:
            yield
        except Refusal:
            self._count(placement.node, placement.storages, need, sign=-1)
            raise

    def _count(self, node: str, storages: tuple[str, ...], need: Need, *, sign: int = 1) -> None:
        self.free_memory[node] -= sign * need.memory_mib * MIB
        for name in storages[:1]:
            chosen = self.storages[node, name]
            for storage in self.storages.values():
                if storage is chosen or (chosen.is_shared and storage.name == name):
                    storage.used_bytes += sign * need.disk_bytes

    def _check_existence(self, need: Need) -> None:
        if need.node and need.node not in self.nodes:
            raise InvalidInput(
                "node",
                f"{self.cluster} has no node {need.node!r}; it has "
                f"{', '.join(sorted(self.nodes))}.",
            )
        known = {name for _, name in self.storages}
        for name in need.storages:
            if name not in known:
                raise InvalidInput("storage", f"{self.cluster} has no storage {name!r}.")
        whose = f"any node of {self.cluster}"
        check_size(self.nodes.values(), need.cores, need.memory_mib, whose)

    def objection(self, name: str, need: Need) -> str:
        """Why this node cannot take the VM; "" when it can."""
        node = self.nodes[name]
        if not node.is_online:
            return f"it is {node.status}"
        if need.only_on and name not in need.only_on:
            return need.only_because
        if need.network and self.bridges[name] and need.network not in self.bridges[name]:
            # A node whose bridges were never read may have it; Proxmox will say.
            return f"it has no bridge {need.network}"
        if 0 < node.cores < need.cores:
            return f"it has {node.cores} cores"
        if self.free_memory[name] < need.memory_mib * MIB:
            return f"it has {max(0, self.free_memory[name]) // MIB} MiB of memory left"
        return self._storage_objection(name, need)

    def _storage_objection(self, node: str, need: Need) -> str:
        if need.picks_storage and not self._storages_on(node, need):
            return f"it has no storage for disk images with {-(-need.disk_bytes // GIB)} GiB left"
        for place, name in enumerate(self._storages_on(node, need)):
            needed = need.disk_bytes if place == 0 else 0
            if trouble := self.storage_trouble(node, name, needed):
                return trouble
        return ""

    def storage_trouble(self, node: str, name: str, needed_bytes: int) -> str:
        """Why this storage of the node cannot take so much of a disk; "" when it can."""
        here = self.storages.get((node, name))
        if here is None:
            return f"it has no storage {name}"
        return trouble_with(here, needed_bytes, "images")


def free_memory(nodes: dict[str, Node], promised: Iterable[tuple[Any, ...]]) -> dict[str, int]:
    """Bytes of memory each node has left, VMs accepted a moment ago counted as if they ran.

    What a node uses now knows nothing of VMs that do not run yet, and of those that do it counts
    only the memory they have touched. So what counts is the larger of two: what is used now and
    what was promised to VMs on their way; or all that was promised.
    """
    mib = {node: (all_mib, coming_mib) for node, all_mib, coming_mib in promised}
    free = {}
    for name, node in nodes.items():
        all_mib, coming_mib = mib.get(name, (0, 0))
        taken = max(node.memory_used_bytes + coming_mib * MIB, all_mib * MIB)
        free[name] = node.memory_bytes - taken
    return free


def check_size(nodes: Collection[Node], cores: int, memory_mib: int, whose: str) -> None:
    """Raises InvalidInput for what none of them can start; one that was never read may have it."""
    most_mib = max((node.memory_bytes // MIB for node in nodes), default=0)
    if 0 < most_mib < memory_mib:
        raise InvalidInput(
            "memory", f"{memory_mib} MiB of memory are more than {whose} has ({most_mib} MiB)."
        )
    most_cores = max((node.cores for node in nodes), default=0)
    if 0 < most_cores < cores:
        raise InvalidInput("cores", f"{cores} cores are more than {whose} has ({most_cores}).")


def check_fits(vm: VirtualMachine, *, cores: int, memory_mib: int, network: str) -> None:
    """What a VM is to be changed to, against the node where it is. Raises InvalidInput."""
    if not (cores or memory_mib or network):
        return
    node = Node.objects.filter(cluster=vm.cluster, name=vm.node, missing_since=None).first()
    if node is None:
        return
    check_size([node], cores, memory_mib, f"node {node.name}")
    bridges = Network.objects.filter(cluster=vm.cluster, node=vm.node).order_by("name")
    known = list(bridges.values_list("name", flat=True)) if network else []
    if known and network not in known:
        raise InvalidInput(
            "network", f"Node {node.name} has no bridge {network}; it has {', '.join(known)}."
        )


def trouble_with(storage: Storage, needed_bytes: int, content: str) -> str:
    """Why this storage cannot take so much of that; "" when it can."""
    if content not in storage.content:
        what = "disk images" if content == "images" else f"{content} files"
        return f"storage {storage.name} holds no {what}"
    if not storage.is_available:
        return f"storage {storage.name} is not available"
    if storage.total_bytes and free_bytes(storage) < needed_bytes:
        return f"storage {storage.name} has too little space"
    return ""


def free_bytes(storage: Storage) -> int:
    return storage.total_bytes - storage.used_bytes
