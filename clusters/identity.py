"""Which cluster is this? Seen at first contact, checked ever after, so that rows of one cluster are
never taken for another's when an address changes hands."""

from __future__ import annotations

import time
from dataclasses import dataclass

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


def confirm_identity(cluster: Cluster, client: Client, *, timeout_s: float = 10.0) -> bool:
    """Is it still the cluster our rows are of? Asked now and then, with each new client, and always
    while the cluster is refused.

    Gives whether it was asked now. Raises OtherCluster, ProxmoxError.
    """
    now, known = time.monotonic(), _confirmed.get(cluster.pk)
    is_young = known is not None and known[0] is client and now - known[1] < IDENTITY_S
    if is_young and cluster.state != REFUSED:
        return False
    check_identity(cluster, identify(client, timeout_s=timeout_s))
    _confirmed[cluster.pk] = (client, now)
    return True


def check_identity(cluster: Cluster, seen: Identity) -> None:
    """Note who it is at first contact. Raises OtherCluster when it is somebody else later."""
    if not cluster.pve_name:
        cluster.pve_name, cluster.ca_fingerprint = seen.name, seen.ca_fingerprint
        cluster.save(update_fields=["pve_name", "ca_fingerprint"])
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
