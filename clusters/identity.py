"""Which cluster is this? Seen at first contact, checked ever after, so that rows of one cluster are
never taken for another's when an address changes hands."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.db import transaction

from clusters.models import REFUSED, Cluster
from proxmox import Client, ProxmoxError

# How long a confirmed identity is believed, in seconds, by this process.
IDENTITY_S = 300
_confirmed: dict[int, tuple[Client, float]] = {}


class OtherCluster(Exception):
    """What answers at a cluster's address is not the cluster its row was made for."""


@dataclass(frozen=True)
class Identity:
    """`name` is the cluster's, or the node's where it stands alone; the CA is the cluster's own."""

    name: str
    ca_fingerprint: str
    nodes: tuple[str, ...]


def identify(client: Client, *, timeout_s: float = 10.0) -> Identity:
    """Raises ProxmoxError when the cluster does not answer."""
    status = client.cluster_status(timeout_s=timeout_s)
    nodes = tuple(sorted(node.name for node in status.nodes))
    local = next((node.name for node in status.nodes if node.is_local), nodes[0] if nodes else "")
    try:
        ca_fingerprint = client.ca_fingerprint(local, timeout_s=timeout_s) or ""
    except ProxmoxError:
        # A certificate from elsewhere leaves the names to go by.
        ca_fingerprint = ""
    return Identity(status.name or local, ca_fingerprint, nodes)


def confirm_identity(cluster: Cluster, client: Client, *, timeout_s: float = 10.0) -> None:
    """Is it still the cluster our rows are of? Asked now and then, with each new client, and always
    while the cluster is refused; its version is noted with it. Raises OtherCluster, ProxmoxError.
    """
    now, known = time.monotonic(), _confirmed.get(cluster.pk)
    is_young = known is not None and known[0] is client and now - known[1] < IDENTITY_S
    if is_young and cluster.state != REFUSED:
        return
    check_identity(cluster, identify(client, timeout_s=timeout_s))
    version = client.version(timeout_s=timeout_s).version
    if version != cluster.version:
        Cluster.objects.filter(pk=cluster.pk).update(version=version)
    _confirmed[cluster.pk] = (client, now)


def check_identity(cluster: Cluster, seen: Identity) -> None:
    """Note who it is at first contact. Raises OtherCluster when it is somebody else later, or the
    cluster of another row from the beginning."""
    if not cluster.pve_name:
        note_identity(cluster, seen)
        return
    same_ca = seen.ca_fingerprint == cluster.ca_fingerprint or not (
        seen.ca_fingerprint and cluster.ca_fingerprint
    )
    if seen.name != cluster.pve_name or not same_ca:
        raise OtherCluster(
            f"{', '.join(cluster.endpoints)} is now the cluster {seen.name!r}, with another CA or "
            f"name than {cluster.pve_name!r}, which the rows of {cluster} belong to. Nothing was "
            "read into them. Add the new cluster under another name, or correct the address."
        )


def note_identity(cluster: Cluster, seen: Identity) -> None:
    """Raises OtherCluster where another row has it: each VM would be there twice, and be worked on
    by two tasks at once."""
    with transaction.atomic():
        # Two rows may be looked at for the first time in the same moment.
        list(Cluster.objects.select_for_update().order_by("pk").values_list("pk"))
        cluster.pve_name, cluster.ca_fingerprint = seen.name, seen.ca_fingerprint
        twin = twin_of(cluster)
        if twin is None:
            cluster.save(update_fields=["pve_name", "ca_fingerprint"])
            return
    cluster.pve_name = cluster.ca_fingerprint = ""
    raise OtherCluster(
        f"{', '.join(cluster.endpoints)} is the cluster {seen.name!r}, which {twin} is already. "
        f"Switch one of the two off; more addresses of its nodes belong into {twin}."
    )


def twin_of(cluster: Cluster) -> Cluster | None:
    """Another enabled row of the same cluster. Names alone do not tell: many a node is `pve`."""
    if not (cluster.pve_name and cluster.ca_fingerprint):
        return None
    same = Cluster.objects.filter(
        is_enabled=True, pve_name=cluster.pve_name, ca_fingerprint=cluster.ca_fingerprint
    )
    return same.exclude(pk=cluster.pk).first()
