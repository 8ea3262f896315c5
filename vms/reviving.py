"""Making a VM ready for a failed operation that is tried again, by somebody who still may."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.db.models import F

from accounts.actors import Actor
from operations.models import Operation
from operations.plans import plan_for
from operations.refusals import Conflict, NotAllowed
from operations.retrying import first_step
from templates_app.models import Template
from vms.building import check_name_is_free
from vms.copying import check_is_not_there
from vms.models import VirtualMachine
from vms.placement import Capacity, Need, choose_alone
from vms.preflight import refuse_protected
from vms.quota import Amount, Headroom
from vms.sourcing import Source, placed
from vms.steps.creation import Clone
from vms.vmids import next_vmid


def living_vm(operation: Operation, by: Actor) -> VirtualMachine:
    """Raises Conflict when it is gone, or belongs to another project by now."""
    vms = VirtualMachine.objects.subject_of(operation).visible_to(by)
    vm: VirtualMachine | None = vms.first()
    if vm is None:
        raise Conflict("vm_gone", f"VM {operation.subject_label} is no longer there.")
    return vm


def same_vm(operation: Operation, by: Actor) -> dict[str, Any]:
    """Its VM must still be there. Raises Conflict."""
    living_vm(operation, by)
    return operation.params  # type: ignore[no-any-return]


def same_unprotected_vm(operation: Operation, by: Actor) -> dict[str, Any]:
    """Where there is no way back. Raises Conflict."""
    refuse_protected(living_vm(operation, by))
    return operation.params  # type: ignore[no-any-return]


def same_vm_to_convert(operation: Operation, by: Actor) -> dict[str, Any]:
    """For everybody only where an operator makes it, and while its name is free, as when it is
    asked for. Raises Conflict."""
    vm = living_vm(operation, by)
    refuse_protected(vm)
    check_name_is_free(vm.cluster, vm.name, seen_by=by)
    return {**operation.params, "published": by.is_operator}


def same_template_to_delete(operation: Operation, by: Actor) -> dict[str, Any]:
    """It may have been published meanwhile. Raises Conflict, NotAllowed."""
    template = Template.objects.subject_of(operation).living().first()
    if template is None:
        raise Conflict("template_gone", f"Template {operation.subject_label} is no longer there.")
    if not (by.is_operator or template.is_own_of(by)):
        raise NotAllowed("not_allowed", "Only an operator's token may do this.")
    return operation.params  # type: ignore[no-any-return]


def same_vm_growing(operation: Operation, by: Actor) -> dict[str, Any]:
    """The quota must have room again, as when it was accepted. Raises Conflict, NotAllowed."""
    growth = Amount(**operation.params.get("growth") or {})
    Headroom.of(living_vm(operation, by).project).take(growth)
    return operation.params  # type: ignore[no-any-return]


def same_vm_with_a_snapshot_more(operation: Operation, by: Actor) -> dict[str, Any]:
    """As for growth."""
    Headroom.of(living_vm(operation, by).project).take(Amount(snapshots=1))
    return operation.params  # type: ignore[no-any-return]


def with_sources(operation: Operation, by: Actor) -> dict[str, Any]:
    """The parameters, where it is to be copied once more: from what is there now, and for who asks.
    Raises Conflict."""
    params: dict[str, Any] = operation.params
    if first_step(operation, plan_for(operation.kind)) != Clone.name:
        return params
    claimed = [name.partition(":") for name, _ in operation.wants]
    uuids = {kind: [uuid for of, _, uuid in claimed if of == kind] for kind in ("vm", "template")}
    if "sources" in params:
        family = Template.objects.visible_to(by).filter(uuid__in=uuids["template"])
        sources = [Source.of(one) for one in family.order_by(F("copy_of").asc(nulls_first=True))]
        if not sources:
            raise Conflict(
                "template_gone", f"Template {params['template_name']} is no longer there."
            )
        return params | {"sources": [asdict(source) for source in sources]}
    others = [uuid for uuid in uuids["vm"] if uuid != str(operation.subject)]
    if VirtualMachine.objects.visible_to(by).filter(uuid__in=others).count() != len(others):
        raise Conflict("vm_gone", f"VM {params['template_name']} is no longer there.")
    return params


def same_or_new_vm(operation: Operation, by: Actor) -> dict[str, Any]:
    """A creation's: what was kept is gone on with; what was undone gets a number and a place anew.

    The VM's uuid stays. Raises Refusal as a creation would.
    """
    params = with_sources(operation, by)
    vm = VirtualMachine.objects.subject_of(operation).select_related("project").first()
    if vm is None:
        raise Conflict("vm_gone", "Izvor's record of the VM was removed meanwhile.")
    # Before the row, as for all that needs both: else two could wait for each other.
    headroom = Headroom.of(vm.project)
    vm = VirtualMachine.objects.select_for_update().get(pk=vm.pk)
    if vm.deleted_at is None:
        # It has failed, until it is made.
        return params
    if not operation.notes.get("undone"):
        raise Conflict("vm_gone", f"VM {operation.subject_label} was deleted meanwhile.")
    cluster = operation.cluster
    choose_alone(cluster)
    capacity = Capacity(cluster)
    placement = capacity.choose(Need.from_json(params["need"]))
    headroom.take(Amount.of(vm))
    values = {
        "vmid": next_vmid(cluster),
        "node": placement.node,
        **dict.fromkeys(("deleted_at", "missing_since", "smbios_uuid")),
        "has_failed": False,
        "last_error": "",
    }
    for name, value in values.items():
        setattr(vm, name, value)
    vm.save(update_fields=[*values, "updated_at"])
    operation.subject_label = str(vm)
    return {**params, **placed(params, placement, capacity)}


def same_or_new_template(operation: Operation, by: Actor) -> dict[str, Any]:
    """A template's making; raises Conflict too when there is one by now."""
    copy_of = operation.params.get("copy_of")
    if copy_of:
        original = Template.objects.living().filter(uuid=copy_of).first()
        if original is None:
            raise Conflict("template_gone", "The template is no longer there.")
        check_is_not_there(original, operation.params["need"]["node"])
    else:
        vm = VirtualMachine.objects.subject_of(operation).get()
        check_name_is_free(operation.cluster, vm.name)
    return same_or_new_vm(operation, by)
