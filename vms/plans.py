"""What each kind of operation does, step by step, and how a creation is undone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db.models.functions import Now
from django.utils import timezone

from accounts.actors import Actor
from accounts.sql import execute
from operations.models import SUCCEEDED, Operation
from operations.plans import Plan, Step, register
from templates_app.models import Template
from vms.job import VmJob, open_job
from vms.models import SETTLED_AFTER, STOPPED, VirtualMachine
from vms.reviving import (
    same_or_new_template,
    same_or_new_vm,
    same_template_to_delete,
    same_unprotected_vm,
    same_vm,
    same_vm_growing,
    same_vm_to_convert,
    same_vm_with_a_snapshot_more,
)
from vms.steps.changes import Convert, Migrate, Move, ObserveChanged, Reconfigure
from vms.steps.creation import (
    Clone,
    Configure,
    Discard,
    GrowDisk,
    Ready,
    StopToDiscard,
)
from vms.steps.images import Create, DiscardImage, Download, RemoveImage
from vms.steps.power import (
    Destroy,
    Reboot,
    Reset,
    Resume,
    ShutDown,
    Start,
    StartIfAsked,
    Stop,
    StopForDeletion,
    Suspend,
)
from vms.steps.snapshots import DeleteSnapshot, MarkAgain, Observe, Rollback, TakeSnapshot
from vms.steps.templates import DestroyTemplate
from vms.steps.user_data import (
    AttachAgain,
    AttachBack,
    AttachUserData,
    DetachUserData,
    DiscardUserData,
    DropUserData,
    UploadUserData,
)
from vms.template_job import TemplateJob, open_template_job

CLAIM_VMS = """
    UPDATE vms_virtualmachine AS vm SET doing = wanted.kind, task = wanted.task
    FROM unnest(%s::uuid[], %s::text[], %s::uuid[]) AS wanted (vm, kind, task)
    WHERE vm.uuid = wanted.vm
"""


def claim_vms(operations: Sequence[Operation]) -> None:
    """The VM's row says who works on it, from the moment of the claim."""
    claimed = [(one.subject, one.kind, one.uuid) for one in operations]
    execute(CLAIM_VMS, [list(column) for column in zip(*claimed, strict=True)])


def free_vm(operation: Operation, state: str) -> None:
    VirtualMachine.objects.subject_of(operation).filter(task=operation.uuid).update(
        doing="",
        task=None,
        last_error="" if state == SUCCEEDED else operation.error,
        settled_at=Now() + SETTLED_AFTER,
    )


def end_creation(operation: Operation, state: str) -> None:
    """A creation that failed leaves no VM behind, or one that is shown as failed."""
    free_vm(operation, state)
    vm = VirtualMachine.objects.subject_of(operation)
    if state == SUCCEEDED:
        vm.filter(has_failed=True).update(has_failed=False)
    elif operation.notes.get("undone"):
        vm.update(deleted_at=timezone.now())
    elif operation.started_at is None:
        # It made nothing. But what it was to go on with, as a retry, stands there all the same.
        vm.filter(has_failed=False).update(deleted_at=timezone.now())
    else:
        vm.update(has_failed=True)


def end_deletion(operation: Operation, state: str) -> None:
    free_vm(operation, state)
    if state == SUCCEEDED:
        gone = VirtualMachine.objects.subject_of(operation)
        # Its last state: it was stopped before.
        gone.update(deleted_at=timezone.now(), power=STOPPED)


def end_template_deletion(operation: Operation, state: str) -> None:
    if state == SUCCEEDED:
        gone = Template.objects.subject_of(operation)
        gone.mark_missing(timezone.now(), settled_at=Now() + SETTLED_AFTER)


def plan(
    kind: str,
    title: str,
    *steps: Step[VmJob],
    undo: tuple[Step[VmJob], ...] = (),
    on_end: Callable[[Operation, str], None] = free_vm,
    on_retry: Callable[[Operation, Actor], dict[str, Any]] | None = None,
) -> Plan[VmJob]:
    return Plan(
        kind,
        title,
        open_job,
        steps,
        undo=undo,
        on_claim=claim_vms,
        on_end=on_end,
        on_retry=on_retry or (same_or_new_vm if undo else same_vm),
    )


PLANS: tuple[Plan[VmJob], ...] = (
    plan(
        "create_vm",
        "Create",
        Clone(),
        Move(),
        Configure(),
        GrowDisk(),
        UploadUserData(),
        AttachUserData(),
        Start(),
        Ready(),
        undo=(StopToDiscard(), Discard(), DiscardUserData()),
        on_end=end_creation,
    ),
    plan(
        "install_vm",
        "Install",
        Create(),
        Configure(),
        GrowDisk(),
        UploadUserData(),
        AttachUserData(),
        Start(),
        Ready(),
        undo=(StopToDiscard(), Discard(), DiscardUserData()),
        on_end=end_creation,
    ),
    plan(
        "build_template",
        "Build template",
        Download(),
        Create(),
        Configure(),
        GrowDisk(),
        RemoveImage(),
        Convert(),
        undo=(StopToDiscard(), Discard(), DiscardImage()),
        on_end=end_creation,
        on_retry=same_or_new_template,
    ),
    plan(
        "copy_template",
        "Copy template",
        Clone(),
        Move(),
        Convert(),
        undo=(StopToDiscard(), Discard()),
        on_end=end_creation,
        on_retry=same_or_new_template,
    ),
    plan(
        "clone_vm",
        "Clone",
        Clone(),
        Configure(),
        GrowDisk(),
        UploadUserData(),
        AttachUserData(),
        Start(),
        Ready(),
        undo=(StopToDiscard(), Discard(), DiscardUserData()),
        on_end=end_creation,
    ),
    plan(
        "update_vm",
        "Update",
        Reconfigure(),
        UploadUserData(),
        AttachUserData(),
        GrowDisk(),
        ObserveChanged(),
        on_retry=same_vm_growing,
    ),
    plan("start_vm", "Start", Start()),
    plan("stop_vm", "Stop", Stop()),
    plan("shutdown_vm", "Shut down", ShutDown()),
    plan("reboot_vm", "Reboot", Reboot()),
    plan("reset_vm", "Reset", Reset()),
    plan("suspend_vm", "Suspend", Suspend()),
    plan("resume_vm", "Resume", Resume()),
    plan("migrate_vm", "Migrate", Migrate()),
    plan("take_snapshot", "Snapshot", TakeSnapshot(), on_retry=same_vm_with_a_snapshot_more),
    plan("delete_snapshot", "Delete snapshot", DeleteSnapshot()),
    plan(
        "rollback_snapshot",
        "Roll back",
        Rollback(),
        MarkAgain(),
        AttachAgain(),
        StartIfAsked(),
        Observe(),
        on_retry=same_vm_growing,
    ),
    plan("mark_vm", "Put the mark back", MarkAgain()),
    plan(
        "convert_vm",
        "Convert to template",
        DetachUserData(),
        Convert(),
        DropUserData(),
        undo=(AttachBack(),),
        on_retry=same_vm_to_convert,
    ),
    plan(
        "delete_vm",
        "Delete",
        StopForDeletion(),
        Destroy(),
        DropUserData(),
        on_end=end_deletion,
        on_retry=same_unprotected_vm,
    ),
)


DELETE_TEMPLATE: Plan[TemplateJob] = Plan(
    "delete_template",
    "Delete template",
    open_template_job,
    (DestroyTemplate(),),
    on_end=end_template_deletion,
    on_retry=same_template_to_delete,
)


def register_all() -> None:
    for known in PLANS:
        register(known)
    register(DELETE_TEMPLATE)
