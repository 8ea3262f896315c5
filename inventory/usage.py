"""Sums over a cluster's rows."""

from __future__ import annotations

from typing import Any

from django.db.models import Count, Q, Sum

from clusters.models import Cluster, Node, Storage
from vms.models import RUNNING, STOPPED, VirtualMachine


def percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def cluster_totals(cluster: Cluster, nodes: list[Node], *, full: bool) -> dict[str, Any]:
    """Cores, bytes, VMs and percent; shared storage counts once, cores as used by running VMs.

    Not `full`, all of them are None: they tell of other projects' VMs.
    """
    sums = sums_of(cluster, nodes)
    seen = {"synced_at": cluster.seen_at, "stale": not cluster.is_online}
    return (sums if full else dict.fromkeys(sums)) | seen


def sums_of(cluster: Cluster, nodes: list[Node]) -> dict[str, float]:
    vms = VirtualMachine.objects.filter(
        cluster=cluster, deleted_at=None, missing_since=None
    ).aggregate(
        all=Count("id"),
        running=Count("id", filter=Q(power=RUNNING)),
        stopped=Count("id", filter=Q(power=STOPPED)),
        cores=Sum("cores", filter=Q(power=RUNNING)),
    )
    storages = Storage.objects.filter(cluster=cluster, missing_since=None).each_once()
    total_storage = sum(storage.total_bytes for storage in storages)
    used_storage = sum(storage.used_bytes for storage in storages)
    total_cores = sum(node.cores for node in nodes)
    total_memory = sum(node.memory_bytes for node in nodes)
    used_memory = sum(node.memory_used_bytes for node in nodes)
    return {
        "total_cores": total_cores,
        "used_cores": vms["cores"] or 0,
        "total_memory": total_memory,
        "used_memory": used_memory,
        "total_storage": total_storage,
        "used_storage": used_storage,
        "total_vms": vms["all"],
        "running_vms": vms["running"],
        "stopped_vms": vms["stopped"],
        "cpu_usage_percent": percent(
            sum(node.cpu_fraction * node.cores for node in nodes), total_cores
        ),
        "memory_usage_percent": percent(used_memory, total_memory),
        "storage_usage_percent": percent(used_storage, total_storage),
    }
