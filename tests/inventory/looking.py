"""Looking at the simulated cluster as inventory does."""

from __future__ import annotations

from typing import Any

from clusters.models import Cluster
from inventory import cycle
from vms.models import VirtualMachine


def look(cluster: Cluster) -> Cluster:
    cycle.look_at(cluster)
    cluster.refresh_from_db()
    return cluster


def fresh(sim: Any) -> None:
    """The cluster's list shows what is so now, and not what was up to 10 s ago."""
    sim.change(lambda s: s.cache.refresh())


def vm_of(cluster: Cluster, vmid: int) -> VirtualMachine:
    found: VirtualMachine = cluster.vms.get(vmid=vmid, deleted_at=None)
    return found
