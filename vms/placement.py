"""On which node a new VM goes: filters first, each with its reason, then the most free memory."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from django.db.models import Sum

from clusters.models import Cluster, Network, Node, Storage
from operations.refusals import Conflict, InvalidInput
from templates_app.models import Template
from vms.models import RUNNING, VirtualMachine

MIB = 1024**2


@dataclass(frozen=True)
class Placement:
    """The chosen node and why; `rejected` says of the others what spoke against them."""

    node: str
    reason: str
    rejected: dict[str, str] = field(default_factory=dict)


def choose_node(
    *,
    template: Template,
    memory_mib: int,
    disk_bytes: int,
    node: str = "",
    network: str = "",
    storage: str = "",
    linked: bool = False,
) -> Placement:
    """The node for a VM of this template.

    Raises InvalidInput when the node that was asked for does not exist, Conflict when none can
    take the VM.
    """
    nodes = {n.name: n for n in Node.objects.filter(cluster=template.cluster, missing_since=None)}
    if node and node not in nodes:
        raise InvalidInput(
            "node", f"{template.cluster} has no node {node!r}; it has {', '.join(sorted(nodes))}."
        )
    here = Storage.objects.filter(cluster=template.cluster, name=storage, missing_since=None)
    if storage and not here.exists():
        raise InvalidInput("storage", f"{template.cluster} has no storage {storage!r}.")
    largest = max((n.memory_bytes for n in nodes.values()), default=0)
    if largest and memory_mib * MIB > largest:
        raise InvalidInput(
            "memory",
            f"No node of {template.cluster} has {memory_mib} MiB of memory; "
            f"the largest has {largest // MIB} MiB.",
        )
    free = free_memory(template.cluster)
    rejected = {
        name: reason
        for name, candidate in nodes.items()
        if (
            reason := objection(
                candidate, template, free, memory_mib, disk_bytes, network, storage, linked
            )
        )
    }
    if node in rejected:
        raise Conflict(
            "node_unsuitable", f"Node {node} cannot take it: {rejected[node]}.", field="node"
        )
    left = [name for name in nodes if name not in rejected]
    if not left:
        why = "; ".join(f"{name}: {reason}" for name, reason in sorted(rejected.items()))
        raise Conflict("no_node", f"No node can take it ({why or 'no node is known yet'}).")
    if node:
        return Placement(node, "asked for", rejected)
    preferred = template.cluster.preferred_node
    if preferred in left:
        return Placement(preferred, "preferred (PROXMOX_NODE)", rejected)
    best = max(left, key=lambda name: (free[name], name))
    return Placement(best, f"most free memory ({free[best] // MIB} MiB)", rejected)


def objection(
    node: Node,
    template: Template,
    free: dict[str, int],
    memory_mib: int,
    disk_bytes: int,
    network: str,
    storage: str,
    linked: bool,
) -> str:
    """Why this node cannot take the VM; "" when it can."""
    if not node.is_online:
        return f"it is {node.status}"
    if node.name != template.node and not template.is_on_shared_storage:
        return f"template {template.name} is on local storage of {template.node}"
    if storage and linked:
        return "a linked clone stays on its template's storage"
    for name in [storage] if storage else template.storages:
        here = Storage.objects.filter(
            cluster=template.cluster, node=node.name, name=name, missing_since=None
        ).first()
        if here is None:
            return f"it has no storage {name}"
        if "images" not in here.content:
            return f"storage {name} holds no disk images"
        if not here.is_available:
            return f"storage {name} is not available"
        if here.total_bytes and here.total_bytes - here.used_bytes < (0 if linked else disk_bytes):
            return f"storage {name} has too little space"
    if network:
        known = Network.objects.filter(cluster=template.cluster, node=node.name)
        # A node whose bridges were never read may have it; Proxmox will say.
        if known.exists() and not known.filter(name=network).exists():
            return f"it has no bridge {network}"
    if free[node.name] < memory_mib * MIB:
        return f"it has {max(0, free[node.name]) // MIB} MiB of memory left"
    return ""


def free_memory(cluster: Cluster) -> dict[str, int]:
    """Bytes of memory each node has left, VMs accepted a moment ago counted as if they ran.

    A node's own figure knows of a VM only once it runs and was polled, so what counts is the larger
    of what it uses now and what was promised to the VMs placed there.
    """
    promised: dict[str, int] = defaultdict(int)
    living = VirtualMachine.objects.filter(cluster=cluster, deleted_at=None)
    for row in (
        (living.filter(power=RUNNING) | living.exclude(doing="").exclude(power=RUNNING))
        .values("node")
        .annotate(mib=Sum("memory_mib"))
    ):
        promised[row["node"]] += (row["mib"] or 0) * MIB
    return {
        node.name: node.memory_bytes - max(node.memory_used_bytes, promised[node.name])
        for node in Node.objects.filter(cluster=cluster)
    }
