"""What answers about VMs say, by the kind of their operation."""

from __future__ import annotations

from typing import Any

from operations.models import SUCCEEDED, Operation
from operations.rest import renders
from vms.bodies import bodies_of_subjects, body_of_subject, snapshot_body, vm_body
from vms.models import VirtualMachine

# The verb of `POST …/actions` that makes an operation of this kind, of those answered alike.
VERB_OF = {
    "start_vm": "start",
    "stop_vm": "stop",
    "shutdown_vm": "shutdown",
    "reboot_vm": "reboot",
    "reset_vm": "reset",
    "suspend_vm": "suspend",
    "resume_vm": "resume",
    "migrate_vm": "migrate",
    "convert_vm": "template",
}


def subject(operation: Operation) -> VirtualMachine:
    found: VirtualMachine = VirtualMachine.objects.subject_of(operation).get()
    return found


def changed_body(vm: VirtualMachine, *, pending: list[str]) -> dict[str, Any]:
    """`pending` are the options that wait for the next start."""
    return {"vm": vm_body(vm), "vmid": str(vm.vmid), "pending": pending}


@renders("mark_vm")
@renders("create_vm", "install_vm", created=True, one="vm", many="vms", all_of=bodies_of_subjects)
def with_vm(operation: Operation) -> dict[str, Any]:
    body = body_of_subject(operation)
    return {"vm": body, "vmid": body["id"]}


@renders("clone_vm", created=True, one="vm", many="vms")
def cloned(operation: Operation) -> dict[str, Any]:
    return {"action": "clone", **with_vm(operation)}


@renders("delete_vm")
def deleted(operation: Operation) -> dict[str, Any]:
    """Waited for, it also has the VM's last state."""
    vm = subject(operation)
    if not operation.is_ended:
        return {"message": f"VM {vm} is being deleted.", "vmid": str(vm.vmid)}
    return {"message": f"VM {vm} is deleted.", "vmid": str(vm.vmid), "vm": vm_body(vm)}


@renders("update_vm")
def updated(operation: Operation) -> dict[str, Any]:
    return changed_body(subject(operation), pending=operation.notes.get("pending", []))


@renders(*VERB_OF)
def acted(operation: Operation) -> dict[str, Any]:
    vm = subject(operation)
    # A stop without force is carried by a shutdown.
    verb = operation.params.get("verb", VERB_OF[operation.kind])
    body: dict[str, Any] = {"action": verb, "vmid": str(vm.vmid)}
    return body | {"vm": vm_body(vm)} if operation.is_ended else body


@renders("take_snapshot")
def snapshot_taken(operation: Operation) -> dict[str, Any]:
    """Once it is there, it also has the snapshot, unless that was deleted since."""
    vm, name = subject(operation), operation.params["snapshot"]
    body: dict[str, Any] = {"action": "snapshot", "name": name, "vmid": str(vm.vmid)}
    if operation.state == SUCCEEDED:
        for snapshot in vm.snapshots.filter(name=name):
            body["snapshot"] = snapshot_body(snapshot, vm.vmid)
    return body


@renders("delete_snapshot", "rollback_snapshot")
def snapshot_changed(operation: Operation) -> dict[str, Any]:
    return {"name": operation.params["snapshot"], "vmid": str(subject(operation).vmid)}
