"""What to do about an error, sorted as the client sorts it: retry, wait, give up, ask for help."""

from __future__ import annotations

import datetime
import random

import structlog
from django.conf import settings

from operations import ending
from operations.ending import Move
from operations.lease import Lease
from operations.models import FAILED
from operations.plans import Act, Done, Job, Step, StepFailed, UnknownHere, Wait
from proxmox import (
    Conflict,
    Forbidden,
    Locked,
    NotFound,
    OutcomeUnknown,
    ProxmoxError,
    Rejected,
    Unauthorized,
    Unreachable,
)

log = structlog.get_logger(__name__)

CODES: tuple[tuple[type[ProxmoxError], str], ...] = (
    (Forbidden, "proxmox_forbidden"),
    (Unauthorized, "proxmox_unauthorized"),
    (NotFound, "proxmox_not_found"),
    (Conflict, "proxmox_conflict"),
    (Locked, "proxmox_locked"),
    (Rejected, "proxmox_rejected"),
    (OutcomeUnknown, "outcome_unknown"),
    (Unreachable, "proxmox_unreachable"),
)
# Errors of our own are retried for this long: a deploy may mend them.
CRASH_PATIENCE_S = 300.0


def code_of(error: ProxmoxError) -> str:
    return next((code for kind, code in CODES if isinstance(error, kind)), "proxmox_error")


def proxmox_error(lease: Lease, step: Step[Job], error: ProxmoxError, job: Job) -> Move:
    """Retry what passes by itself, visibly; fail with Proxmox's own words where nothing can."""
    operation = lease.operation
    if isinstance(error, Unreachable | Unauthorized):
        return silent(lease, error)
    # A VM suspended to disk stays so until somebody wakes it; other locks are somebody's work.
    if isinstance(error, Locked) and error.lock != "suspended":
        return retry(lease, error, "a lock to be released", step.patience_s)
    try:
        verdict = step.on_refused(job, error)
    except StepFailed as failure:
        return ending.fail(lease, failure.code, failure.message)
    except ProxmoxError as silence:
        return silent(lease, silence)
    tries_left = operation.attempts < step.max_attempts
    if isinstance(error, OutcomeUnknown) and tries_left and not step.is_at_most_once:
        # Its task was cut off in Proxmox: what it did is looked at before anything is asked again.
        verdict = verdict or Wait("the state that an interrupted task left")
    if isinstance(error, NotFound) and error.what == "guest" and tries_left:
        # Not on that node any more; our look finds it on another, or says that it is gone.
        verdict = verdict or Act("the VM was not found where it was")
    if isinstance(verdict, Done | Act):
        return retry(lease, error, "the cluster as it is now", step.patience_s, at_once=True)
    if isinstance(verdict, Wait):
        return retry(lease, error, verdict.reason, step.patience_s)
    return ending.fail(lease, code_of(error), str(error))


def silent(lease: Lease, error: ProxmoxError) -> Move:
    """The cluster gives no usable answer: waited for longer than anything else."""
    cluster, patience_s = lease.operation.cluster, settings.ENGINE["unreachable_patience_s"]
    reason = f"{cluster} to answer"
    if isinstance(error, Unauthorized):
        reason = f"{cluster} to accept Izvor's credentials again"
    return retry(lease, error, reason, patience_s, clock="silent_since")


def retry(
    lease: Lease,
    error: ProxmoxError,
    reason: str,
    patience_s: float,
    *,
    at_once: bool = False,
    clock: str = "trouble_since",
) -> Move:
    """Come back after a back-off, unless this trouble has lasted longer than `patience_s`.

    `at_once` spares the first time's back-off only: what repeats itself is no passing surprise.
    """
    operation, now = lease.operation, lease.now()
    since = getattr(operation, clock)
    lasted = (now - (since or now)).total_seconds()
    if lasted > patience_s:
        return ending.fail(lease, code_of(error), f"Gave up after {lasted:.0f} s: {error}")
    # Twice as long each time, as read from how long the trouble has lasted; a quarter of jitter.
    base = min(settings.ENGINE["backoff_max_s"], max(settings.ENGINE["backoff_s"], lasted))
    delay = 0.0 if at_once and not since else base * random.uniform(0.75, 1.25)  # noqa: S311
    log.info("operation_waits", reason=reason, error=str(error), delay_s=round(delay, 2))
    lease.release(
        **{clock: since or now},
        waiting_for=f"{reason} ({error})"[:500],
        due_at=now + datetime.timedelta(seconds=delay),
        notes=operation.notes,
    )
    return delay


def crashed(lease: Lease, error: Exception) -> float | None:
    """An error of our own: shown, retried for a while, then the operation fails with it."""
    operation, now = lease.operation, lease.now()
    since = operation.crashed_since or now
    lasted = (now - since).total_seconds()
    what, shown = "an internal error to pass", f"{type(error).__name__}: {error}"
    delay = min(30.0, 2.0 + lasted)
    if isinstance(error, UnknownHere):
        # One that knows it may be idle: it is offered again, each time a little later.
        what, shown = "a worker of the newer version", str(error)
        delay = min(5.0, 0.1 + lasted / 4)
    if lasted > CRASH_PATIENCE_S:
        ending.end(
            lease,
            FAILED,
            code="internal_error",
            error=f"Izvor failed in step {operation.step} ({shown}); "
            "look on the cluster for what it may have left.",
            # Maybe it is the plan itself that fails, or one that this code does not know.
            tells_plan=lasted < 2 * CRASH_PATIENCE_S,
        )
        return None
    lease.release(
        crashed_since=since,
        waiting_for=f"{what} ({shown})"[:500],
        due_at=now + datetime.timedelta(seconds=delay),
    )
    return delay
