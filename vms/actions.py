"""Every verb Izvor knows. Each checks meaning, writes the rows in one transaction and enqueues.

Proxmox is asked, briefly, before the transaction, never in it. All raise `operations.refusals`.
"""

from __future__ import annotations

from django.db import transaction

from accounts.actors import Actor
from operations.enqueue import enqueue, holder_of, request_cancel
from operations.models import EXCLUSIVE, QUEUED, SHARED, Operation
from operations.refusals import Conflict
from vms import creation, preflight
from vms.asked import NewVm
from vms.models import PAUSED, RUNNING, STOPPED, SUSPENDED, UNKNOWN, VirtualMachine
from vms.quota import check_quota

# In which states a verb makes sense; UNKNOWN is left to the worker, who asks the cluster.
ALLOWED = {
    "start": {STOPPED, SUSPENDED, UNKNOWN},
    "stop": {RUNNING, PAUSED, UNKNOWN},
    "shutdown": {RUNNING, UNKNOWN},
    "reboot": {RUNNING, UNKNOWN},
}


def create_vm(*, asked: NewVm, by: Actor) -> tuple[VirtualMachine, Operation]:
    """Make a VM from a template."""
    draft = creation.draft_vm(asked, by=by)
    draft = preflight.with_free_vmid(draft)
    with transaction.atomic():
        check_quota(
            by.project,
            vms=1,
            cores=draft.vm.cores,
            memory_mib=draft.vm.memory_mib,
            disk_bytes=draft.vm.disk_bytes,
        )
        draft.vm.save(force_insert=True)
        operation = enqueue(
            "create_vm",
            cluster=draft.vm.cluster,
            by=by,
            wants=[(draft.vm.claim, EXCLUSIVE), (draft.template.claim, SHARED)],
            subject=draft.vm.uuid,
            label=str(draft.vm),
            project_id=draft.vm.project_id,
            params=draft.params,
            secrets=draft.secrets,
        )
    draft.vm.refresh_from_db()
    return draft.vm, operation


def start_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Start a stopped VM, or wake one that is suspended to disk."""
    preflight.check_state(vm, "start", ALLOWED["start"])
    return _enqueue("start_vm", vm, by)


def stop_vm(*, vm: VirtualMachine, force: bool, timeout_s: int, by: Actor) -> Operation:
    """Pull the plug with `force`; else ask the guest first, and pull it after `timeout_s`."""
    preflight.check_state(vm, "stop", ALLOWED["stop"])
    if force:
        return _enqueue("stop_vm", vm, by)
    return _enqueue("shutdown_vm", vm, by, force=True, timeout_s=timeout_s)


def shutdown_vm(*, vm: VirtualMachine, force: bool, timeout_s: int, by: Actor) -> Operation:
    """Ask the guest to shut down; it fails when the guest does not, unless `force`."""
    preflight.check_state(vm, "shutdown", ALLOWED["shutdown"])
    return _enqueue("shutdown_vm", vm, by, force=force, timeout_s=timeout_s)


def reboot_vm(*, vm: VirtualMachine, timeout_s: int, by: Actor) -> Operation:
    """Ask the guest to reboot, which also applies pending changes."""
    preflight.check_state(vm, "reboot", ALLOWED["reboot"])
    return _enqueue("reboot_vm", vm, by, timeout_s=timeout_s)


def delete_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Stop the VM if it runs, destroy it with its disks. One being created is canceled first."""
    preflight.check_deletable(vm)
    with transaction.atomic():
        vm = VirtualMachine.objects.select_for_update().get(pk=vm.pk)
        creating = holder_of(vm.claim) if vm.doing == "create_vm" else None
        if creating is None:
            return _enqueue("delete_vm", vm, by)
        if creating.successors.filter(state=QUEUED).exists():
            raise Conflict("claimed", f"VM {vm} is already being deleted.")
        if creating.cancel_requested_at is None and not creating.is_undoing:
            request_cancel(creating, by=by)
        return _enqueue("delete_vm", vm, by, after=creating)


def _enqueue(
    kind: str, vm: VirtualMachine, by: Actor, *, after: Operation | None = None, **params: object
) -> Operation:
    with transaction.atomic():
        return enqueue(
            kind,
            cluster=vm.cluster,
            by=by,
            wants=[(vm.claim, EXCLUSIVE)],
            subject=vm.uuid,
            label=str(vm),
            project_id=vm.project_id,
            params=params,
            after=after,
        )
