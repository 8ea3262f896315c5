"""Nodes, storages and bridges, as the cluster's list has them."""

from __future__ import annotations

import datetime

from clusters.models import Cluster, Network, Node, Storage
from proxmox import Client
from proxmox.results import Resources

NETWORKS_EVERY = datetime.timedelta(minutes=5)
NODE_FIELDS = [
    "status",
    "cores",
    "memory_bytes",
    "memory_used_bytes",
    "disk_bytes",
    "disk_used_bytes",
    "cpu_fraction",
    "uptime_s",
    "synced_at",
    "missing_since",
]
STORAGE_FIELDS = [
    "kind",
    "is_shared",
    "is_available",
    "content",
    "total_bytes",
    "used_bytes",
    "synced_at",
    "missing_since",
]


def sync_nodes(cluster: Cluster, resources: Resources, began: datetime.datetime) -> None:
    Node.objects.bulk_create(
        [
            Node(
                cluster=cluster,
                name=node.name,
                status=node.status,
                cores=node.cores,
                memory_bytes=node.memory_bytes,
                memory_used_bytes=node.memory_used_bytes,
                disk_bytes=node.disk_bytes,
                disk_used_bytes=node.disk_used_bytes,
                cpu_fraction=node.cpu_fraction,
                uptime_s=node.uptime_s,
                synced_at=began,
            )
            for node in resources.nodes
        ],
        update_conflicts=True,
        unique_fields=["cluster", "name"],
        update_fields=NODE_FIELDS,
    )
    names = [node.name for node in resources.nodes]
    vanished = Node.objects.filter(cluster=cluster, missing_since=None).exclude(name__in=names)
    vanished.update(missing_since=began, status="unknown")


def sync_storages(cluster: Cluster, resources: Resources, began: datetime.datetime) -> None:
    Storage.objects.bulk_create(
        [
            Storage(
                cluster=cluster,
                node=storage.node,
                name=storage.storage,
                kind=storage.plugin_type,
                is_shared=storage.is_shared,
                is_available=storage.is_available,
                content=sorted(storage.content),
                total_bytes=storage.total_bytes,
                used_bytes=storage.used_bytes,
                synced_at=began,
            )
            for storage in resources.storages
        ],
        update_conflicts=True,
        unique_fields=["cluster", "node", "name"],
        update_fields=STORAGE_FIELDS,
    )
    Storage.objects.filter(cluster=cluster, missing_since=None, synced_at__lt=began).update(
        missing_since=began
    )


def sync_networks(cluster: Cluster, client: Client, node: Node, now: datetime.datetime) -> None:
    """A node's bridges; they are not in the cluster's list. Raises ProxmoxError."""
    bridges = client.networks(node.name, timeout_s=5)
    Network.objects.bulk_create(
        [
            Network(
                cluster=cluster,
                node=node.name,
                name=bridge.name,
                kind=bridge.type,
                is_active=bridge.is_active,
                comment=bridge.comment[:255],
                synced_at=now,
            )
            for bridge in bridges
        ],
        update_conflicts=True,
        unique_fields=["cluster", "node", "name"],
        update_fields=["kind", "is_active", "comment", "synced_at"],
    )
    Network.objects.filter(cluster=cluster, node=node.name, synced_at__lt=now).delete()
    Node.objects.filter(pk=node.pk).update(networks_due_at=now + NETWORKS_EVERY)
