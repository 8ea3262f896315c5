"""The API of what clusters consist of, from the rows that inventory writes.

Members see names and states; what a node holds and how full it is, operators.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import (
    PAGING,
    actor_of,
    listing,
    page_of,
    page_of_list,
    refuse_unknown_params,
)
from clusters.connect import connect
from clusters.models import (
    ONLINE,
    PENDING,
    REFUSED,
    UNREACHABLE,
    Cluster,
    Network,
    Node,
    Storage,
)
from inventory.infrastructure import sync_networks
from inventory.usage import cluster_totals, percent
from operations.refusals import Conflict, NotFound
from operations.rest import flag_of, refresh_if_asked
from vms.models import RUNNING, VirtualMachine
from vms.series import series_body

# What the API says of a cluster: one that answers, with all its nodes or not; else its state.
HEALTHY, DEGRADED = "healthy", "degraded"
CLUSTER_STATUSES = (HEALTHY, DEGRADED, PENDING, UNREACHABLE, REFUSED)


def nodes_of(request: Request) -> QuerySet[Node]:
    """The nodes there are, in one cluster with `?cluster=`."""
    nodes = Node.objects.visible_to(actor_of(request)).filter(cluster__is_enabled=True)
    cluster = request.query_params.get("cluster")
    found: QuerySet[Node] = nodes.filter(cluster__name=cluster) if cluster else nodes
    return found.select_related("cluster")


def find_node(request: Request, name: str) -> Node:
    """Raises NotFound, and Conflict where two clusters have a node of this name."""
    found = list(nodes_of(request).filter(name=name)[:2])
    if not found:
        raise NotFound("node_not_found", f"There is no node {name[:64]!r}.")
    if len(found) > 1:
        names = " and ".join(sorted(node.cluster.name for node in found))
        raise Conflict("node_ambiguous", f"Node {name} is in {names}: add ?cluster=.")
    return found[0]


def find_cluster(request: Request) -> Cluster:
    """The one named by `?cluster=`, or the only one. Raises NotFound, Conflict."""
    clusters = Cluster.objects.filter(is_enabled=True)
    name = request.query_params.get("cluster")
    found = list(clusters.filter(name=name) if name else clusters)
    if not found:
        raise NotFound("cluster_not_found", f"There is no cluster {name or 'yet'}.")
    if len(found) > 1:
        names = ", ".join(cluster.name for cluster in found)
        raise Conflict("cluster_ambiguous", f"There are several clusters ({names}): add ?cluster=.")
    return found[0]


class NodeViewSet(ViewSet):
    """Nodes."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"} | PAGING)
        refresh_if_asked(request)
        rows, page = page_of(request, nodes_of(request))
        counts = vm_counts([node.cluster_id for node in rows])
        is_operator = actor_of(request).is_operator
        return listing("nodes", [node_body(n, counts, full=is_operator) for n in rows], page)

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"})
        refresh_if_asked(request)
        node = find_node(request, pk)
        counts = vm_counts([node.cluster_id])
        return Response(node_body(node, counts, full=actor_of(request).is_operator))

    def storage(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"} | PAGING)
        refresh_if_asked(request)
        node = find_node(request, pk)
        rows, page = page_of(request, Storage.objects.filter(cluster=node.cluster, node=node.name))
        is_operator = actor_of(request).is_operator
        return listing("storage", [storage_body(s, full=is_operator) for s in rows], page)

    def networks(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"} | PAGING)
        refresh_if_asked(request)
        node = find_node(request, pk)
        if flag_of(request, "refresh"):
            sync_networks(node.cluster, connect(node.cluster), node, timezone.now())
        rows, page = page_of(request, Network.objects.filter(cluster=node.cluster, node=node.name))
        return listing("networks", [network_body(network) for network in rows], page)

    def metrics(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "timeframe"})
        if not actor_of(request).is_operator:
            raise PermissionDenied("Only an operator's token may see how busy a node is.")
        node = find_node(request, pk)
        return Response(series_body(request, node.cluster, node.name))


class StorageViewSet(ViewSet):
    """Storages: each shared one once, the local ones once a node."""

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"} | PAGING)
        refresh_if_asked(request)
        storages = Storage.objects.filter(cluster__is_enabled=True, missing_since=None)
        if request.query_params.get("cluster"):
            storages = storages.filter(cluster__name=request.query_params["cluster"])
        once = storages.select_related("cluster").each_once()
        rows, page = page_of_list(request, once, attrgetter("place"))
        is_operator = actor_of(request).is_operator
        return listing("storage", [storage_body(s, full=is_operator) for s in rows], page)


class ClusterViewSet(ViewSet):
    """Clusters, their health and their sums."""

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"refresh"} | PAGING)
        refresh_if_asked(request)
        rows, page = page_of(request, Cluster.objects.filter(is_enabled=True))
        return listing("clusters", [status_body(cluster) for cluster in rows], page)

    def status(self, request: Request) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"})
        refresh_if_asked(request)
        return Response(status_body(find_cluster(request)))

    def resources(self, request: Request) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"})
        refresh_if_asked(request)
        cluster = find_cluster(request)
        nodes = list(cluster.nodes.filter(missing_since=None))
        counts = vm_counts([cluster.pk])
        is_operator = actor_of(request).is_operator
        return Response(
            cluster_totals(cluster, nodes, full=is_operator)
            | {"nodes": [node_body(node, counts, full=is_operator) for node in nodes]}
        )


def vm_counts(clusters: list[int]) -> dict[tuple[int, str], dict[str, int]]:
    """VMs and running VMs by cluster and node."""
    living = VirtualMachine.objects.filter(
        cluster__in=set(clusters), deleted_at=None, missing_since=None
    )
    rows = living.values("cluster_id", "node").annotate(
        all=Count("id"), running=Count("id", filter=Q(power=RUNNING))
    )
    return {
        (row["cluster_id"], row["node"]): {"all": row["all"], "running": row["running"]}
        for row in rows
    }


def node_body(
    node: Node, counts: dict[tuple[int, str], dict[str, int]], *, full: bool
) -> dict[str, Any]:
    """Bytes, percent and seconds; null for who may not know."""
    count = counts.get((node.cluster_id, node.name), {"all": 0, "running": 0})
    inside: dict[str, Any] = {
        "cores": node.cores,
        "memory": node.memory_bytes,
        "memory_used": node.memory_used_bytes,
        "disk_total": node.disk_bytes,
        "disk_used": node.disk_used_bytes,
        "cpu_usage": round(100 * node.cpu_fraction, 2),
        "memory_usage": percent(node.memory_used_bytes, node.memory_bytes),
        "vm_count": count["all"],
        "running_vms": count["running"],
        "uptime": node.uptime_s,
    }
    return {
        "name": node.name,
        "cluster": node.cluster.name,
        "status": node.status,
        **(inside if full else dict.fromkeys(inside)),
        "synced_at": node.synced_at,
        "stale": not node.cluster.is_online or node.missing_since is not None,
    }


def storage_body(storage: Storage, *, full: bool) -> dict[str, Any]:
    inside: dict[str, Any] = {
        "total": storage.total_bytes,
        "used": storage.used_bytes,
        "available": max(0, storage.total_bytes - storage.used_bytes),
        "usage_percent": percent(storage.used_bytes, storage.total_bytes),
    }
    return {
        "name": storage.name,
        "cluster": storage.cluster.name,
        "type": storage.kind,
        "node": None if storage.is_shared else storage.node,
        **(inside if full else dict.fromkeys(inside)),
        "content": storage.content,
        "shared": storage.is_shared,
        "enabled": storage.is_available and storage.missing_since is None,
        "synced_at": storage.synced_at,
        "stale": not storage.cluster.is_online,
    }


def network_body(network: Network) -> dict[str, Any]:
    return {
        "name": network.name,
        "node": network.node,
        "type": network.kind,
        "active": network.is_active,
        "comment": network.comment,
        "synced_at": network.synced_at,
    }


def status_body(cluster: Cluster) -> dict[str, Any]:
    online = cluster.nodes.filter(status="online", missing_since=None).count()
    total = cluster.nodes.filter(missing_since=None).count()
    if cluster.state != ONLINE:
        status = cluster.state
    else:
        status = HEALTHY if online == total and cluster.is_quorate else DEGRADED
    return {
        "name": cluster.name,
        "status": status,
        "version": cluster.version or None,
        "quorate": cluster.is_quorate,
        "total_nodes": total,
        "online_nodes": online,
        "offline_nodes": total - online,
        "error": cluster.error or None,
        "synced_at": cluster.seen_at,
        "stale": not cluster.is_online,
    }
