"""How full the clusters and their nodes are, from the rows that inventory writes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, Sum

from clusters.models import Cluster, Node, Storage
from vms.attention import conditions
from vms.charts import in_bytes
from vms.models import RUNNING, VirtualMachine

FULL = 0.9


@dataclass(frozen=True)
class Bar:
    """Used of total; cores may be promised more than once, so a bar can be more than full."""

    name: str
    used: float
    total: float
    is_bytes: bool = True

    @property
    def percent(self) -> int:
        return round(100 * self.used / self.total) if self.total else 0

    @property
    def tone(self) -> str:
        # Cores are shared out more than once as a matter of course.
        if not self.is_bytes:
            return "busy"
        return "bad" if self.percent > 100 * FULL else "warn" if self.percent > 75 else "good"

    @property
    def words(self) -> str:
        if not self.is_bytes:
            return f"{self.used:.0f} of {self.total:.0f}"
        return f"{in_bytes(self.used)} of {in_bytes(self.total)}"


def sums_by_node() -> dict[tuple[int, str], dict[str, Any]]:
    """VMs, running ones, their cores, and those in trouble, by cluster and node: one query."""
    wrong = {f"wrong_{name}": Count("id", filter=q) for name, q in conditions().items()}
    rows = (
        VirtualMachine.objects.filter(deleted_at=None)
        .order_by()
        .values("cluster_id", "node")
        .annotate(
            vms=Count("id"),
            running=Count("id", filter=Q(power=RUNNING)),
            cores=Sum("cores", filter=Q(power=RUNNING), default=0),
            **wrong,
        )
    )
    return {(row["cluster_id"], row["node"]): dict(row) for row in rows}


@dataclass(frozen=True)
class NodeLoad:
    node: Node
    vms: int
    running: int
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class ClusterLoad:
    cluster: Cluster
    nodes: list[NodeLoad]
    vms: int
    running: int
    bars: tuple[Bar, ...]

    @property
    def online(self) -> int:
        return sum(load.node.is_online for load in self.nodes)


def loads(
    clusters: list[Cluster],
    nodes: list[Node],
    storages: list[Storage],
    sums: dict[tuple[int, str], dict[str, Any]],
) -> list[ClusterLoad]:
    """`storages` hold each shared one once."""
    nodes_of: dict[int, list[Node]] = defaultdict(list)
    for node in nodes:
        nodes_of[node.cluster_id].append(node)
    storages_of: dict[int, list[Storage]] = defaultdict(list)
    for storage in storages:
        storages_of[storage.cluster_id].append(storage)
    return [
        cluster_load(cluster, nodes_of[cluster.pk], storages_of[cluster.pk], sums)
        for cluster in clusters
    ]


def cluster_load(
    cluster: Cluster,
    nodes: list[Node],
    storages: list[Storage],
    sums: dict[tuple[int, str], dict[str, Any]],
) -> ClusterLoad:
    here = [row for (pk, _), row in sums.items() if pk == cluster.pk]
    return ClusterLoad(
        cluster,
        [node_load(node, storages, sums.get((cluster.pk, node.name), {})) for node in nodes],
        vms=sum(row["vms"] for row in here),
        running=sum(row["running"] for row in here),
        bars=(
            Bar(
                "Cores of running VMs",
                sum(row["cores"] for row in here),
                sum(node.cores for node in nodes),
                is_bytes=False,
            ),
            memory_bar(nodes),
            storage_bar("Storage", storages),
        ),
    )


def node_load(node: Node, storages: list[Storage], row: dict[str, Any]) -> NodeLoad:
    own = [storage for storage in storages if not storage.is_shared and storage.node == node.name]
    return NodeLoad(
        node,
        vms=row.get("vms", 0),
        running=row.get("running", 0),
        bars=(
            Bar("Cores", row.get("cores", 0), node.cores, is_bytes=False),
            memory_bar([node]),
            storage_bar("Own storage", own),
        ),
    )


def memory_bar(nodes: list[Node]) -> Bar:
    used = sum(node.memory_used_bytes for node in nodes)
    return Bar("Memory", used, sum(node.memory_bytes for node in nodes))


def storage_bar(name: str, storages: list[Storage]) -> Bar:
    used = sum(storage.used_bytes for storage in storages)
    return Bar(name, used, sum(storage.total_bytes for storage in storages))
