"""What a person should look at now, worst first; nothing, where all is well."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import reverse
from django.utils import timezone

from accounts.admin_site import BAD, WARN, ago, lasted
from clusters.models import Cluster, Node, Storage
from izvor_project.home.capacity import FULL
from operations.models import Operation
from templates_app.models import Template
from vms.attention import IN_ERROR, LOCKED, MISSING, ORPHAN, UNMARKED, conditions
from vms.models import VirtualMachine

# Named one by one up to here; of more, only how many there are.
NAMED_MAX = 5
# Inventory looks every 10 s, and workers take due tasks at once.
SILENT_AFTER = datetime.timedelta(minutes=2)
TAKEN_WITHIN = datetime.timedelta(seconds=60)
VM_WORDS = {
    IN_ERROR: "was not made successfully",
    MISSING: "is not on its cluster any more",
    LOCKED: "is locked in Proxmox, and no task of Izvor's is at work on it",
    ORPHAN: "bears the mark of a VM that Izvor does not know",
    UNMARKED: "was made by Izvor and has lost its mark",
}


@dataclass(frozen=True)
class Item:
    tone: str
    text: str
    url: str
    why: str = ""


def page(row: Any) -> str:
    meta = row._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])


def listing(model: str, query: str) -> str:
    return f"{reverse(f'admin:{model}_changelist')}?{query}"


def of_clusters(clusters: Iterable[Cluster]) -> Iterator[Item]:
    now = timezone.now()
    for cluster in clusters:
        if not cluster.is_enabled:
            continue
        if not cluster.is_online:
            yield Item(BAD, f"Cluster {cluster} is {cluster.state}", page(cluster), cluster.error)
            continue
        if not cluster.is_quorate:
            text = f"Cluster {cluster} has no quorum: it can change nothing"
            yield Item(BAD, text, page(cluster))
        if cluster.seen_at and now - cluster.seen_at > SILENT_AFTER:
            yield Item(
                BAD,
                f"Cluster {cluster} was not looked at for {ago(cluster.seen_at)}",
                page(cluster),
                "Does a worker run that takes the queue `watch`, and does beat?",
            )


def of_nodes(nodes: Iterable[Node], clusters: dict[int, Cluster]) -> Iterator[Item]:
    for node in nodes:
        cluster = clusters[node.cluster_id]
        # What an unreachable cluster's nodes do is not known; that is said once, above.
        if cluster.is_online and not node.is_online:
            yield Item(BAD, f"Node {node} of {cluster} is {node.status}", page(node))


def of_storages(storages: Iterable[Storage], clusters: dict[int, Cluster]) -> Iterator[Item]:
    for storage in storages:
        if not clusters[storage.cluster_id].is_enabled or not storage.total_bytes:
            continue
        used = storage.used_bytes / storage.total_bytes
        if used > FULL:
            where = "" if storage.is_shared else f" on {storage.node}"
            cluster = clusters[storage.cluster_id]
            text = f"Storage {storage.name}{where} of {cluster} is {100 * used:.0f} % full"
            yield Item(BAD if used > 0.97 else WARN, text, page(storage))


def of_vms(counts: dict[str, int]) -> Iterator[Item]:
    """`counts` by what is wrong; only what there is is looked up."""
    for name, q in conditions().items():
        if not counts.get(name):
            continue
        rows = VirtualMachine.objects.filter(q, deleted_at=None).order_by("-updated_at")
        named = list(rows.only(*VM_FIELDS)[:NAMED_MAX])
        tone = WARN if name in {ORPHAN, UNMARKED} else BAD
        for vm in named:
            yield Item(tone, f"VM {vm} {VM_WORDS[name]}", page(vm), why(vm, name))
        if counts[name] > len(named):
            more = counts[name] - len(named)
            url = listing("vms_virtualmachine", f"attention={name}")
            yield Item(tone, f"{more} more VMs: each {VM_WORDS[name]}", url)


VM_FIELDS = ("vmid", "name", "missing_since", "lock", "last_error", "marked_as")


def why(vm: VirtualMachine, name: str) -> str:
    return {
        IN_ERROR: vm.last_error,
        MISSING: f"since {ago(vm.missing_since)}",
        LOCKED: f"lock: {vm.lock}",
        ORPHAN: f"that is {vm.marked_as}; it can be adopted",
    }.get(name, "")


def of_failures(failed: list[Any], count: int) -> Iterator[Item]:
    """The last day's failures that nobody has tried again."""
    for task in failed[:NAMED_MAX]:
        yield Item(BAD, f"{task} failed {ago(task.ended_at)} ago", page(task), task.error)
    if count > NAMED_MAX:
        url = listing("operations_operation", "state=failed&hours=24")
        yield Item(BAD, f"{count - NAMED_MAX} more tasks failed in the last day", url)


def of_workers(oldest: Operation | None) -> Iterator[Item]:
    """`oldest` is the task that has been due for longest, and that nobody holds."""
    if oldest is None or oldest.due_at is None:
        return
    late = timezone.now() - oldest.due_at
    if late > TAKEN_WITHIN:
        yield Item(
            BAD,
            f"No worker has taken a due task for {lasted(late)}",
            page(oldest),
            "Does a worker run that takes the queue `turns`?",
        )


def of_templates(never_read: list[Template]) -> Iterator[Item]:
    for template in never_read[:NAMED_MAX]:
        text = f"Template {template} was never read: its disk and storages are not known"
        yield Item(WARN, text, page(template))
