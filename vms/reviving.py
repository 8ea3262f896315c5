"""Making a VM ready for a failed operation that is tried again."""

from __future__ import annotations

from typing import Any

from operations.models import Operation
from operations.refusals import Conflict
from templates_app.models import Template
from vms.building import check_name_is_free
from vms.copying import check_is_not_there
from vms.models import VirtualMachine
from vms.placement import Capacity, Need, choose_alone
from vms.preflight import refuse_protected
from vms.quota import Amount, Headroom
from vms.sourcing import placed
from vms.vmids import next_vmid


def living_vm(operation: Operation) -> VirtualMachine:
    """Raises Conflict when it is gone."""
    vm: VirtualMachine | None = (
        VirtualMachine.objects.subject_of(operation).filter(deleted_at=None).first()
    )
    if vm is None:
        raise Conflict("vm_gone", f"VM {operation.subject_label} is no longer there.")
    return vm


def same_vm(operation: Operation) -> dict[str, Any]:
    """Its VM must still be there. Raises Conflict."""
    living_vm(operation)
    return operation.params  # type: ignore[no-any-return]


def same_unprotected_vm(operation: Operation) -> dict[str, Any]:
    """Where there is no way back. Raises Conflict."""
    refuse_protected(living_vm(operation))
    return operation.params  # type: ignore[no-any-return]


def same_vm_growing(operation: Operation) -> dict[str, Any]:
    """The quota must have room again, as when it was accepted. Raises Conflict, NotAllowed."""
    growth = Amount(**operation.params.get("growth") or {})
    Headroom.of(living_vm(operation).project).take(growth)
    return operation.params  # type: ignore[no-any-return]


def same_vm_with_a_snapshot_more(operation: Operation) -> dict[str, Any]:
    """As for growth."""
    Headroom.of(living_vm(operation).project).take(Amount(snapshots=1))
    return operation.params  # type: ignore[no-any-return]


def same_or_new_vm(operation: Operation) -> dict[str, Any]:
    """A creation's: what was kept is gone on with; what was undone gets a number and a place anew.

    The VM's uuid stays. Raises Refusal as a creation would.
    """
    vm = VirtualMachine.objects.subject_of(operation).select_related("project").first()
    if vm is None:
        raise Conflict("vm_gone", "Izvor's record of the VM was removed meanwhile.")
    # Before the row, as for all that needs both: else two could wait for each other.
    headroom = Headroom.of(vm.project)
    vm = VirtualMachine.objects.select_for_update().get(pk=vm.pk)
    if vm.deleted_at is None:
        # It has failed, until it is made.
        return operation.params  # type: ignore[no-any-return]
    if not operation.notes.get("undone"):
        raise Conflict("vm_gone", f"VM {operation.subject_label} was deleted meanwhile.")
    cluster = operation.cluster
    choose_alone(cluster)
    capacity = Capacity(cluster)
    placement = capacity.choose(Need.from_json(operation.params["need"]))
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
    return {**operation.params, **placed(operation.params, placement, capacity)}


def same_or_new_template(operation: Operation) -> dict[str, Any]:
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
    return same_or_new_vm(operation)
