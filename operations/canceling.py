"""Canceling: each step says what stops it safely."""

from __future__ import annotations

from typing import Any

from operations import ending
from operations.ending import NOT_YET, Move
from operations.lease import Lease
from operations.plans import Cancel, Job, Plan, Step
from proxmox import Upid


def honour(lease: Lease, plan: Plan[Any], step: Step[Any], job: Job) -> Move:
    """Stop where that is safe; NOT_YET lets the present task or call come to its end."""
    operation = lease.operation
    if plan.cancel_of(step) is Cancel.NOT_CANCELABLE:
        return NOT_YET
    if operation.upid and not operation.task_exit:
        if step.cancel is Cancel.ABORT and not job.notes.get("aborted"):
            job.client.abort_task(Upid.parse(operation.upid), timeout_s=10)
            job.notes["aborted"] = True
            lease.write(notes=job.notes)
        return NOT_YET
    if operation.submitted_at and not operation.upid:
        return NOT_YET
    if (operation.upid or operation.acted_at) and not plan.undo:
        # Too late: it is done, and there is no way back. What came of it is looked at.
        return NOT_YET
    return ending.cancel(lease)
