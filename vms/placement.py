"""On which node a new VM goes: filters first, each with its reason, then the most free memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.db.models import Q, Sum

from clusters.models import Cluster, Network, Node, Storage
from operations.refusals import Conflict, InvalidInput
from vms.models import RUNNING, VirtualMachine

MIB = 1024**2
# How many allocations a storage takes at once by default, by its plugin. Proxmox serialises them
# cluster-wide on shared storage and lets the rest time out.
STORAGE_LANES = {"dir": 2, "nfs": 1, "cifs": 1, "lvm": 2, "lvmthin": 4, "zfspool": 4, "rbd": 4}
NODE_LANE = 8


@dataclass(frozen=True)
class Need:
    """What a VM asks of its node."""

    memory_mib: int
    # Bytes to be allocated on the first of `storages`; a linked clone allocates none yet.
    disk_bytes: int
    # Where its disks will lie: all of them must be there.
    storages: tuple[str, ...] = ()
    # The one node it must be, and why; "": any that can take it.
    node: str = ""
    node_because: str = "asked for"
    network: str = ""
    # The only nodes that can take it, and the reason against the others; empty: any can.
    only_on: tuple[str, ...] = ()
    only_because: str = ""

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Need:
        """From what `dataclasses.asdict` made of it, stored and read again."""
        lists = {name: tuple(values[name]) for name in ("storages", "only_on")}
        return cls(**{**values, **lists})


@dataclass(frozen=True)
class Placement:
    """The chosen node and why; `rejected` says of the others what spoke against them."""

    node: str
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)


def choose_alone(cluster: Cluster) -> None:
    """Let no other request choose on this cluster until this transaction is over.

    Each then sees what the others have placed: fifty at once do not all choose the same node.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"placement:{cluster.pk}"]
        )


class Capacity:
    """What a cluster's nodes have left, read once; what is chosen here is counted at once."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        nodes = Node.objects.filter(cluster=cluster, missing_since=None)
        self.nodes = {node.name: node for node in nodes}
        self.storages = {
            (storage.node, storage.name): storage
            for storage in Storage.objects.filter(cluster=cluster, missing_since=None)
        }
        self.bridges: dict[str, set[str]] = defaultdict(set)
        for node, name in Network.objects.filter(cluster=cluster).values_list("node", "name"):
            self.bridges[node].add(name)
        self.free_memory = self._free_memory()

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
        self._count(node, need)
        return Placement(node, reason, rejected)

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

    def _count(self, node: str, need: Need) -> None:
        self.free_memory[node] -= need.memory_mib * MIB
        for name in need.storages[:1]:
            chosen = self.storages[node, name]
            for storage in self.storages.values():
                is_same = storage is chosen or (chosen.is_shared and storage.name == name)
                storage.used_bytes += need.disk_bytes if is_same else 0

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
        largest = max((node.memory_bytes for node in self.nodes.values()), default=0)
        if largest and need.memory_mib * MIB > largest:
            raise InvalidInput(
                "memory",
                f"No node of {self.cluster} has {need.memory_mib} MiB of memory; "
                f"the largest has {largest // MIB} MiB.",
            )

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
        if self.free_memory[name] < need.memory_mib * MIB:
            return f"it has {max(0, self.free_memory[name]) // MIB} MiB of memory left"
        return self._storage_objection(name, need)

    def _storage_objection(self, node: str, need: Need) -> str:
        for place, name in enumerate(need.storages):
            here = self.storages.get((node, name))
            if here is None:
                return f"it has no storage {name}"
            if "images" not in here.content:
                return f"storage {name} holds no disk images"
            if not here.is_available:
                return f"storage {name} is not available"
            needed = need.disk_bytes if place == 0 else 0
            if here.total_bytes and here.total_bytes - here.used_bytes < needed:
                return f"storage {name} has too little space"
        return ""

    def _free_memory(self) -> dict[str, int]:
        """Bytes of memory each node has left, VMs accepted a moment ago counted as if they ran.

        What a node uses now knows nothing of VMs that do not run yet, and of those that do it
        counts only the memory they have touched. So what counts is the larger of two: what is used
        now and what was promised to VMs on their way; or all that was promised.
        """
        rows = (
            VirtualMachine.objects.filter(
                Q(power=RUNNING) | ~Q(doing=""), cluster=self.cluster, deleted_at=None
            )
            .order_by()
            .values("node")
            .annotate(
                mib=Sum("memory_mib"),
                coming_mib=Sum("memory_mib", filter=~Q(power=RUNNING), default=0),
            )
        )
        mib = {row["node"]: (row["mib"], row["coming_mib"]) for row in rows}
        free = {}
        for name, node in self.nodes.items():
            all_mib, coming_mib = mib.get(name, (0, 0))
            taken = max(node.memory_used_bytes + coming_mib * MIB, all_mib * MIB)
            free[name] = node.memory_bytes - taken
        return free
