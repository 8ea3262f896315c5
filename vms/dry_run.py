"""`?dry_run=true`: what a creation would check and choose, and nothing of what it would do."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts.actors import Actor
from vms.asked import NewTemplate, NewVm
from vms.building import TemplateDraft, draft_template
from vms.creation import Draft, fit, least_of
from vms.installing import draft_batch
from vms.placement import Capacity
from vms.quota import Headroom


def describe_creation(asked: NewVm, *, by: Actor) -> dict[str, Any]:
    """Raises Refusal, exactly as the creation would. Takes no VMID and writes nothing."""
    drafts = draft_batch(asked, by=by)
    vm = drafts[0].vm
    with transaction.atomic():
        headroom = Headroom.of(vm.project)
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
        **origin(fitting[0]),
        "size": vm.size.name if vm.size else None,
        "cores": vm.cores,
        "memory": vm.memory_mib,
        "disk_size": vm.disk_gib,
        "quota": headroom.effect(),
        "calls": calls(fitting[0]),
    }


def describe_template(asked: NewTemplate) -> dict[str, Any]:
    """The same for a template that is to be made of an image."""
    draft = draft_template(asked)
    placement = draft.place(Capacity(draft.vm.cluster))
    wanted = draft.params["hardware"]
    return {
        "dry_run": True,
        "cluster": draft.vm.cluster.name,
        "node": placement.node,
        "reason": placement.reason,
        "rejected_nodes": placement.rejected,
        "storage": wanted["storage"],
        "image": wanted["image"],
        "calls": template_calls(draft),
    }


def template_calls(draft: TemplateDraft) -> list[dict[str, str]]:
    asked, node = draft.params, draft.vm.node
    file = asked["download"]
    target = f"/nodes/{node}/qemu/VMID"
    planned = [("create", "POST", f"/nodes/{node}/qemu"), ("configure", "PUT", f"{target}/config")]
    if asked["disk_gib"]:
        planned.append(("grow_disk", "PUT", f"{target}/resize"))
    if file:
        storage = f"/nodes/{node}/storage/{file['storage']}"
        planned.insert(0, ("download", "POST", f"{storage}/download-url"))
        planned.append(("remove_image", "DELETE", f"{storage}/content/{file['volid']}"))
    planned.append(("convert", "POST", f"{target}/template"))
    return as_calls(planned)


def as_calls(planned: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    return [{"step": step, "method": method, "path": path} for step, method, path in planned]


def origin(draft: Draft) -> dict[str, Any]:
    """What it would be made from."""
    asked, vm = draft.params, draft.vm
    if vm.os_template:
        return {"os_template": vm.os_template, "storage": asked["hardware"]["storage"]}
    return {"template": {"id": str(asked["template_vmid"]), "name": vm.template_name}}


def calls(draft: Draft) -> list[dict[str, str]]:
    """What Proxmox would be asked to change, in order; VMID is chosen only when it is done."""
    asked, node = draft.params, draft.vm.node
    target = f"/nodes/{node}/qemu/VMID"
    planned: list[tuple[str, str, str]] = []
    if "hardware" in asked:
        planned.append(("create", "POST", f"/nodes/{node}/qemu"))
    else:
        source = f"/nodes/{asked['template_node']}/qemu/{asked['template_vmid']}"
        planned.append(("clone", "POST", f"{source}/clone"))
        if asked["move"]:
            moved = f"/nodes/{asked['template_node']}/qemu/VMID/migrate"
            planned.append(("move", "POST", moved))
        planned.append(("configure", "PUT", f"{target}/config"))
    if asked["disk_gib"]:
        planned.append(("grow_disk", "PUT", f"{target}/resize"))
    if asked["start_on_create"]:
        planned.append(("start", "POST", f"{target}/status/start"))
    return as_calls(planned)
