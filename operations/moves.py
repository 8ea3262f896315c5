"""How a move ends: the step is done, it waits, or the next turn goes on. All is written down here.

What to do, `operations.engine` decides.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction

from operations import ending, history, lanes, measures
from operations.ending import CONTINUE, Move
from operations.lease import Lease
from operations.models import CANCELED, FAILED, SUCCEEDED
from operations.plans import Cancel, Job, Plan, Step


class Moves:
    """An operation in the hands of who has its lease."""

    job: Job

    def __init__(self, lease: Lease, plan: Plan[Any]) -> None:
        self.lease = lease
        self.operation = lease.operation
        self.plan = plan

    def finish(self, step: Step[Any], *, is_skipped: bool = False) -> Move:
        """The step's state was observed: go to the next, or end.

        The last step and the end are one write: a worker that died between them would leave a step
        that looks as if it had not begun, and the next would do it again.
        """
        following = self.plan.after(step, is_undoing=self.operation.is_undoing)
        now = self.lease.now()
        steps = self.operation.steps
        if not is_skipped:
            steps = history.with_step(self.operation, step.name, now, has_ended=True)
        with transaction.atomic():
            if not is_skipped:
                step.record(self.job)
                measures.note_step(self.operation, step.name, now)
            if following is None:
                return ending.end(self.lease, self.end_state(), steps=steps)
            if self.is_last_chance(step, following) and self.lease.is_cancel_requested():
                return ending.cancel(self.lease)
            lanes.leave(self.operation)
            self.lease.write(
                step=following.name,
                step_started_at=now,
                upid="",
                task_exit="",
                submitted_at=None,
                acted_at=None,
                attempts=0,
                silent_since=None,
                waiting_since=None,
                trouble_since=None,
                waiting_for="",
                notes=self.job.notes,
                steps=steps,
                progress=self.progress_after(step),
            )
        return CONTINUE

    def is_last_chance(self, step: Step[Any], following: Step[Any]) -> bool:
        """May it be canceled now, and not any more in the next step?"""
        now, then = self.plan.cancel_of(step), self.plan.cancel_of(following)
        never = Cancel.NOT_CANCELABLE
        return now is not never and then is never and not self.operation.is_undoing

    def end_state(self) -> str:
        """What an operation ends as whose last step is done, or whose undoing is."""
        if not self.operation.is_undoing:
            return SUCCEEDED
        return CANCELED if self.operation.error_code == "canceled" else FAILED

    def progress_after(self, step: Step[Any]) -> int:
        """Percent; undoing makes none."""
        if self.operation.is_undoing:
            return self.operation.progress
        return 100 * (self.plan.steps.index(step) + 1) // len(self.plan.steps)

    def wait(self, step: Step[Any], reason: str, check_s: float, *, counts: bool = True) -> Move:
        """Come back later, unless this step's patience is over (waiting in a lane never is)."""
        waited = self.seconds_since(self.operation.waiting_since)
        if counts and waited > step.patience_s:
            return ending.fail(
                self.lease, "timed_out", f"Waited {waited:.0f} s in step {step.name} for {reason}."
            )
        since = (self.operation.waiting_since or self.lease.now()) if counts else None
        return self.come_back(
            check_s,
            waiting_for=reason[:500],
            waiting_since=since,
            # The cluster has answered, so a silence that was there is over.
            silent_since=None,
        )

    def seconds_since(self, moment: datetime.datetime | None) -> float:
        return (self.lease.now() - (moment or self.lease.now())).total_seconds()

    def come_back(self, delay_s: float, **values: Any) -> float:
        job = getattr(self, "job", None)
        self.lease.release(
            **values,
            **({"notes": job.notes} if job else {}),
            due_at=self.lease.now() + datetime.timedelta(seconds=delay_s),
        )
        return delay_s
