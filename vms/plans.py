"""What each kind of operation does, step by step, and how a creation is undone."""

from __future__ import annotations

import datetime

from django.utils import timezone

from operations.models import SUCCEEDED, Operation
from operations.plans import Plan, register
from vms.job import VmJob, open_job
from vms.models import VirtualMachine
from vms.steps.creation import Clone, Configure, Discard, GrowDisk, Ready
from vms.steps.power import Destroy, Reboot, ShutDown, Start, StartAgain, Stop, StopForDeletion

# The cluster's list lags up to 10 s behind; it counts for a VM again this long after an operation.
SETTLED_AFTER = datetime.timedelta(seconds=15)


def claim_vm(operation: Operation) -> None:
    """The VM's row says who works on it, from the moment of the claim."""
    VirtualMachine.objects.subject_of(operation).update(doing=operation.kind, task=operation.uuid)


def free_vm(operation: Operation, state: str) -> None:
    VirtualMachine.objects.subject_of(operation).filter(task=operation.uuid).update(
        doing="",
        task=None,
        last_error="" if state == SUCCEEDED else operation.error,
        settled_at=timezone.now() + SETTLED_AFTER,
    )


def end_creation(operation: Operation, state: str) -> None:
    """A creation that failed leaves no VM behind, or one that is shown as failed."""
    free_vm(operation, state)
    if state == SUCCEEDED:
        return
    vm = VirtualMachine.objects.subject_of(operation)
    if operation.notes.get("undone") or operation.started_at is None:
        vm.update(deleted_at=timezone.now())
    else:
        vm.update(has_failed=True)


def end_deletion(operation: Operation, state: str) -> None:
    free_vm(operation, state)
    if state == SUCCEEDED:
        VirtualMachine.objects.subject_of(operation).update(deleted_at=timezone.now())


PLANS: tuple[Plan[VmJob], ...] = (
    Plan(
        kind="create_vm",
        title="Create",
        open=open_job,
        steps=(Clone(), Configure(), GrowDisk(), Start(), Ready()),
        undo=(Discard(),),
        on_claim=claim_vm,
        on_end=end_creation,
    ),
    Plan(
        kind="start_vm",
        title="Start",
        open=open_job,
        steps=(StartAgain(),),
        on_claim=claim_vm,
        on_end=free_vm,
    ),
    Plan(
        kind="stop_vm",
        title="Stop",
        open=open_job,
        steps=(Stop(),),
        on_claim=claim_vm,
        on_end=free_vm,
    ),
    Plan(
        kind="shutdown_vm",
        title="Shut down",
        open=open_job,
        steps=(ShutDown(),),
        on_claim=claim_vm,
        on_end=free_vm,
    ),
    Plan(
        kind="reboot_vm",
        title="Reboot",
        open=open_job,
        steps=(Reboot(),),
        on_claim=claim_vm,
        on_end=free_vm,
    ),
    Plan(
        kind="delete_vm",
        title="Delete",
        open=open_job,
        steps=(StopForDeletion(), Destroy()),
        on_claim=claim_vm,
        on_end=end_deletion,
    ),
)


def register_all() -> None:
    for plan in PLANS:
        register(plan)
