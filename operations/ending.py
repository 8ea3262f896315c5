"""How operations end: the last write, the undoing before it, and what others are told."""

from __future__ import annotations

from enum import Enum
from typing import Any

import structlog
from django.db import transaction

from accounts.prepared import Prepared, Slot
from accounts.sql import execute
from operations import lanes, measures, queue
from operations.claims import take_claims
from operations.history import record_task_event
from operations.lease import Lease
from operations.models import CANCELED, FAILED, QUEUED, SUCCEEDED, Operation
from operations.plans import Cancel, plan_for

log = structlog.get_logger(__name__)


class Signal(Enum):
    """A move's answer that is no delay."""

    CONTINUE = "the next move can follow at once"
    NOT_YET = "not canceled yet"


CONTINUE, NOT_YET = Signal.CONTINUE, Signal.NOT_YET
# Seconds until the next turn, None when there is none to come, or a signal within the turn.
Move = float | None | Signal
# Locked, since it may be canceled in line at this moment.
SUCCESSOR = Prepared(
    lambda: (
        Operation.objects.select_for_update()
        .filter(after=Slot("after"), state=QUEUED)
        .order_by("-id")[:1]
    )
)


def end(
    lease: Lease,
    state: str,
    *,
    code: str = "",
    error: str = "",
    steps: list[Any] | None = None,
    tells_plan: bool = True,
) -> Move:
    """The last write: tells the plan, frees claims and lanes, lets the successor in.

    The subject's row is locked before the operation's, as actions do: else they would wait for
    each other. `tells_plan=False` is for an operation whose plan cannot be asked.
    """
    operation = lease.operation
    operation.error_code = code or operation.error_code
    operation.error = error or operation.error
    with transaction.atomic():
        settle_end(operation, state, tells_plan=tells_plan)
        lease.release(
            state=state,
            ended_at=lease.now(),
            due_at=None,
            upid="",
            submitted_at=None,
            task_exit="",
            waiting_for="",
            # A failed one keeps them while it can be retried; the sweeper erases them then.
            sealed_params=operation.sealed_params if state == FAILED else "",
            error_code=operation.error_code,
            error=operation.error,
            notes=operation.notes,
            steps=operation.steps if steps is None else steps,
            progress=100 if state == SUCCEEDED else operation.progress,
        )
    log.info("operation_ended", kind=operation.kind, state=state, error=operation.error or None)
    return None


def settle_end(operation: Operation, state: str, *, tells_plan: bool = True) -> None:
    """What goes with an end, in its transaction; also for one canceled before its first turn."""
    if tells_plan:
        plan_for(operation.kind).on_end(operation, state)
    lanes.leave(operation)
    execute("DELETE FROM operations_claim WHERE operation_id = %s", [operation.pk], prepare=True)
    why = {"code": operation.error_code, "error": operation.error} if operation.error else {}
    record_task_event(f"task.{state}", operation, by=operation.by, **why)
    queue.announce_end(operation)
    measures.note_end(operation, state)
    if successor := SUCCESSOR.first(after=operation.pk):
        plan_for(successor.kind).on_claim([successor])
        take_claims([successor])
        queue.wake(successor)


def fail(lease: Lease, code: str, message: str) -> Move:
    """A step failed for good: undo what the operation made, unless it was asked to keep it."""
    operation = lease.operation
    if operation.is_undoing:
        left = f"{operation.error} Undoing it failed too: {message}"
        record_task_event("task.left_behind", operation, by=operation.by, error=message)
        state = CANCELED if operation.error_code == "canceled" else FAILED
        return end(lease, state, code=operation.error_code or code, error=left)
    plan = plan_for(operation.kind)
    can_cancel = plan.cancel_of(plan.find(operation.step)) is not Cancel.NOT_CANCELABLE
    if operation.cancel_requested_at and can_cancel:
        return cancel(lease)
    if operation.params.get("keep"):
        return end(lease, FAILED, code=code, error=message)
    return turn_back(lease, code, message)


def cancel(lease: Lease) -> Move:
    """Begin to undo, since somebody asked for it."""
    by = lease.operation.cancel_by or "a user"
    return turn_back(lease, "canceled", f"Canceled by {by}.")


def turn_back(lease: Lease, code: str, message: str) -> Move:
    """Begin to undo; an operation that has made nothing ends at once."""
    plan = plan_for(lease.operation.kind)
    if not plan.undo:
        return end(lease, CANCELED if code == "canceled" else FAILED, code=code, error=message)
    with transaction.atomic():
        lanes.leave(lease.operation)
        lease.write(
            notes=lease.operation.notes | {"failed_step": lease.operation.step},
            is_undoing=True,
            step=plan.undo[0].name,
            step_started_at=lease.now(),
            upid="",
            task_exit="",
            submitted_at=None,
            acted_at=None,
            silent_since=None,
            waiting_since=None,
            trouble_since=None,
            attempts=0,
            error_code=code,
            error=message,
            waiting_for="",
        )
    return CONTINUE
