"""`?dry_run=true`: what a creation would check and choose, and nothing of what it would do."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts.actors import Actor
from vms.asked import NewVm
from vms.creation import Draft, draft_batch, fit, least_of
from vms.placement import Capacity
from vms.quota import Headroom


def describe_creation(asked: NewVm, *, by: Actor) -> dict[str, Any]:
    """Raises Refusal, exactly as the creation would. Takes no VMID and writes nothing."""
    drafts = draft_batch(asked, by=by)
    vm = drafts[0].vm
    with transaction.atomic():
        headroom = Headroom(vm.project)
        fitting = fit(drafts, Capacity(vm.cluster), headroom, at_least=least_of(asked))
    placement = fitting[0].placement
    assert placement is not None, "it was placed just now"
    return {
        "dry_run": True,
        "count": len(fitting),
        "cluster": vm.cluster.name,
        "node": vm.node,
        "nodes": [draft.vm.node for draft in fitting],
        "reason": placement.reason,
        "rejected_nodes": placement.rejected,
        "template": {"id": str(drafts[0].params["template_vmid"]), "name": vm.template_name},
        "size": vm.size.name if vm.size else None,
        "cores": vm.cores,
        "memory": vm.memory_mib,
        "disk_size": vm.disk_gib,
        "quota": headroom.effect(),
        "calls": calls(drafts[0]),
    }


def calls(draft: Draft) -> list[dict[str, str]]:
    """What Proxmox would be asked to change, in order; VMID is chosen only when it is done."""
    asked, vm = draft.params, draft.vm
    source = f"/nodes/{asked['template_node']}/qemu/{asked['template_vmid']}"
    target = f"/nodes/{vm.node}/qemu/VMID"
    planned = [
        {"step": "clone", "method": "POST", "path": f"{source}/clone"},
        {"step": "configure", "method": "PUT", "path": f"{target}/config"},
    ]
    if asked["disk_gib"]:
        planned.append({"step": "grow_disk", "method": "PUT", "path": f"{target}/resize"})
    if asked["start_on_create"]:
        planned.append({"step": "start", "method": "POST", "path": f"{target}/status/start"})
    return planned
