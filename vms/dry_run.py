"""`?dry_run=true`: what a creation would check and choose, and nothing of what it would do."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts.actors import Actor
from vms.asked import NewVm
from vms.creation import Draft, draft_vm
from vms.quota import check_quota


def describe_creation(asked: NewVm, *, by: Actor) -> dict[str, Any]:
    """Raises Refusal, exactly as the creation would. Takes no VMID and writes nothing."""
    draft = draft_vm(asked, by=by)
    vm = draft.vm
    with transaction.atomic():
        quota = check_quota(
            by.project,
            vms=1,
            cores=vm.cores,
            memory_mib=vm.memory_mib,
            disk_bytes=vm.disk_bytes,
        )
    return {
        "dry_run": True,
        "cluster": vm.cluster.name,
        "node": vm.node,
        "reason": draft.placement.reason,
        "rejected_nodes": draft.placement.rejected,
        "template": {"id": str(draft.params["template_vmid"]), "name": vm.template_name},
        "size": vm.size.name if vm.size else None,
        "cores": vm.cores,
        "memory": vm.memory_mib,
        "disk_size": vm.disk_gib,
        "quota": quota,
        "calls": calls(draft),
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
