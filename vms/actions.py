"""Every verb Izvor knows. Each checks meaning, writes the rows in one transaction and enqueues.

Proxmox is asked, briefly, before the transaction, never in it. All raise `operations.refusals`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts.actors import Actor
from accounts.models import Project
from events.models import record_event
from operations import idempotency
from operations.enqueue import enqueue, holder_of, request_cancel
from operations.models import EXCLUSIVE, QUEUED, Operation
from operations.refusals import Conflict
from vms import building, changing, cloning, creation, installing, preflight
from vms.accepting import accept
from vms.asked import CloneOf, NewVm, VmChanges
from vms.models import CREATIONS, PAUSED, RUNNING, STOPPED, SUSPENDED, UNKNOWN, VirtualMachine
from vms.quota import Amount, Headroom

# In which states a verb makes sense; UNKNOWN is left to the worker, who asks the cluster.
ALLOWED = {
    "start": {STOPPED, SUSPENDED, UNKNOWN},
    "stop": {RUNNING, PAUSED, UNKNOWN},
    "shutdown": {RUNNING, UNKNOWN},
    "reboot": {RUNNING, UNKNOWN},
    "reset": {RUNNING, UNKNOWN},
    "suspend": {RUNNING, UNKNOWN},
    "resume": {PAUSED, SUSPENDED, UNKNOWN},
    "snapshot": {RUNNING, PAUSED, STOPPED, UNKNOWN},
    "clone": {RUNNING, PAUSED, STOPPED, UNKNOWN},
    "migrate": {RUNNING, STOPPED, UNKNOWN},
    "template": {STOPPED},
    "change": {RUNNING, PAUSED, STOPPED, UNKNOWN},
}


def create_vm(*, asked: NewVm, by: Actor) -> tuple[VirtualMachine, Operation]:
    """Make a VM from a template, an ISO or a cloud image."""
    return create_vms(asked=asked, by=by)[0]


def create_vms(*, asked: NewVm, by: Actor) -> list[tuple[VirtualMachine, Operation]]:
    """Make as many as were asked for, or as fit, but no fewer than the caller is content with."""
    batch = installing.draft_batch(asked, by=by)
    at_least = creation.least_of(asked)
    return accept(batch, by, at_least=at_least, is_batch=asked.count is not None)


def start_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Start a stopped VM, or wake one that is suspended to disk."""
    preflight.check_state(vm, "start", ALLOWED["start"])
    return _enqueue("start_vm", vm, by)


def stop_vm(*, vm: VirtualMachine, force: bool, timeout_s: int, by: Actor) -> Operation:
    """Pull the plug with `force`; else ask the guest first, and pull it after `timeout_s`."""
    preflight.check_state(vm, "stop", ALLOWED["stop"])
    if force:
        return _enqueue("stop_vm", vm, by)
    return _enqueue("shutdown_vm", vm, by, force=True, timeout_s=timeout_s, verb="stop")


def shutdown_vm(*, vm: VirtualMachine, force: bool, timeout_s: int, by: Actor) -> Operation:
    """Ask the guest to shut down; it fails when the guest does not, unless `force`."""
    preflight.check_state(vm, "shutdown", ALLOWED["shutdown"])
    return _enqueue("shutdown_vm", vm, by, force=force, timeout_s=timeout_s)


def reboot_vm(*, vm: VirtualMachine, timeout_s: int, by: Actor) -> Operation:
    """Ask the guest to reboot, which also applies pending changes."""
    preflight.check_state(vm, "reboot", ALLOWED["reboot"])
    return _enqueue("reboot_vm", vm, by, timeout_s=timeout_s)


def reset_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Press the reset button."""
    preflight.check_state(vm, "reset", ALLOWED["reset"])
    return _enqueue("reset_vm", vm, by)


def suspend_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Pause the VM: its memory stays where it is."""
    preflight.check_state(vm, "suspend", ALLOWED["suspend"])
    return _enqueue("suspend_vm", vm, by)


def resume_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Let a paused VM go on, or wake one that is suspended to disk."""
    preflight.check_state(vm, "resume", ALLOWED["resume"])
    return _enqueue("resume_vm", vm, by)


def migrate_vm(*, vm: VirtualMachine, node: str, by: Actor) -> Operation:
    """Move the VM to another node, running or stopped."""
    preflight.check_state(vm, "migrate", ALLOWED["migrate"])
    preflight.check_target(vm, node)
    return _enqueue("migrate_vm", vm, by, node=node)


def take_snapshot(
    *,
    vm: VirtualMachine,
    name: str,
    description: str,
    include_ram: bool,
    by: Actor,
    named_in: str = "name",
) -> Operation:
    """Keep the VM's disks as they are now, and with `include_ram` a running VM's memory."""
    preflight.check_state(vm, "snapshot", ALLOWED["snapshot"])
    preflight.check_new_snapshot(vm, name, named_in=named_in)
    with transaction.atomic():
        Headroom.of(vm.project).take(Amount(snapshots=1))
        return _enqueue(
            "take_snapshot", vm, by, snapshot=name, description=description, include_ram=include_ram
        )


def rollback_snapshot(*, vm: VirtualMachine, name: str, start: bool, by: Actor) -> Operation:
    """Back to the snapshot; what has changed since is lost."""
    preflight.check_state(vm, "rollback", ALLOWED["snapshot"])
    preflight.check_snapshot(vm, name)
    growth = changing.growth_by_rollback(vm, name)
    with transaction.atomic():
        Headroom.of(vm.project).take(growth)
        return _enqueue(
            "rollback_snapshot", vm, by, snapshot=name, start=start, growth=asdict(growth)
        )


def delete_snapshot(*, vm: VirtualMachine, name: str, by: Actor) -> Operation:
    """Forget the snapshot; the VM stays as it is."""
    preflight.check_state(vm, "deleting a snapshot", ALLOWED["snapshot"])
    preflight.check_snapshot(vm, name)
    return _enqueue("delete_snapshot", vm, by, snapshot=name)


def convert_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Make a template of the VM; a member's is for its own project. There is no way back."""
    preflight.refuse_protected(vm)
    preflight.check_state(vm, "template", ALLOWED["template"])
    if names := preflight.snapshot_names(vm):
        raise Conflict(
            "has_snapshots",
            f"VM {vm} has snapshots ({', '.join(sorted(names))}), and a template has none: delete "
            "them first.",
        )
    published = by.is_operator
    claims = building.name_claims(vm, published=published)
    with transaction.atomic():
        operation = _enqueue("convert_vm", vm, by, claims=claims, published=published)
        # Now that nobody else is making one.
        building.check_name_is_free(vm.cluster, vm.name, seen_by=by)
        return operation


def clone_vm(*, vm: VirtualMachine, asked: CloneOf, by: Actor) -> tuple[VirtualMachine, Operation]:
    """Another VM like this one, stopped."""
    preflight.check_state(vm, "clone", ALLOWED["clone"])
    draft = cloning.draft_clone(vm, asked, by=by)
    return accept([draft], by)[0]


def update_vm(*, vm: VirtualMachine, changes: VmChanges, by: Actor) -> Operation | None:
    """Change what was asked. None: only Izvor's own fields were, and they are changed."""
    draft = changing.draft_changes(vm, changes, by=by)
    if draft.params:
        preflight.check_state(vm, "change", ALLOWED["change"])
    with transaction.atomic():
        changing.write_own_fields(vm, changes, by=by)
        if not draft.params:
            idempotency.note_done(200, f"vm:{vm.uuid}")
            return None
        Headroom.of(vm.project).take(draft.growth)
        return _enqueue("update_vm", vm, by, secrets=draft.secrets, **draft.params)


def mark_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Put our mark back into the description of a VM that Izvor made."""
    preflight.check_state(vm, "marking", ALLOWED["change"])
    return _enqueue("mark_vm", vm, by)


def adopt_vm(*, vm: VirtualMachine, project: Project | None, by: Actor) -> Operation:
    """Take on a VM that bears the mark of one that Izvor no longer knows, as its own."""
    if vm.marked_as in {None, vm.uuid}:
        raise Conflict("not_an_orphan", f"VM {vm} bears no mark of a VM that Izvor has lost.")
    preflight.check_state(vm, "adopting", ALLOWED["change"])
    with transaction.atomic():
        Headroom.of(project).take(Amount.of(vm))
        VirtualMachine.objects.filter(pk=vm.pk).update(is_ours=True, project=project)
        return _enqueue("mark_vm", vm, by)


def forget_vm(*, vm: VirtualMachine, by: Actor) -> None:
    """Drop the record of a VM that is gone from its cluster, or whose cluster is switched off; on
    the cluster nothing is done."""
    with transaction.atomic():
        rows = VirtualMachine.objects.filter(
            Q(missing_since__isnull=False) | Q(cluster__is_enabled=False),
            **{"pk": vm.pk, "deleted_at": None, "doing": ""},
        ).update(deleted_at=Now())
        if rows != 1:
            raise Conflict("not_missing", f"VM {vm} is not missing, or a task works on it.")
        record_event(
            "vm.forgotten", by=by, project_id=vm.project_id, subject=vm.uuid, label=str(vm)
        )


def delete_vm(*, vm: VirtualMachine, by: Actor) -> Operation:
    """Stop the VM if it runs, destroy it with its disks. One being created is canceled first."""
    preflight.check_deletable(vm)
    with transaction.atomic():
        vm = VirtualMachine.objects.select_for_update().get(pk=vm.pk)
        preflight.refuse_protected(vm)
        creating = holder_of(vm.claim) if vm.doing in CREATIONS else None
        if creating is None:
            return _enqueue("delete_vm", vm, by)
        if creating.successors.filter(state=QUEUED).exists():
            raise Conflict("claimed", f"VM {vm} is already being deleted.")
        if creating.cancel_requested_at is None and not creating.is_undoing:
            request_cancel(creating, by=by)
        return _enqueue("delete_vm", vm, by, after=creating)


def _enqueue(
    kind: str,
    vm: VirtualMachine,
    by: Actor,
    *,
    after: Operation | None = None,
    secrets: dict[str, Any] | None = None,
    claims: Iterable[tuple[str, str]] = (),
    **params: object,
) -> Operation:
    with transaction.atomic():
        operation = enqueue(
            kind,
            cluster=vm.cluster,
            by=by,
            wants=[(vm.claim, EXCLUSIVE), *claims],
            subject=vm.uuid,
            label=str(vm),
            project_id=vm.project_id,
            params=params,
            secrets=secrets,
            after=after,
        )
        if after is None:
            preflight.check_as_seen(vm)
        return operation
