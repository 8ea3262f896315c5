"""The engine: carries operations through their plans, one short turn at a time.

A turn takes the lease, makes as many moves as need no waiting, writes each one down before the
next, and says when to come back. It never sleeps, and it may be killed at any point: what the row
says is enough for the next turn to go on, because a change in Proxmox is *stamped* (submitted_at)
before it is asked for, and after a lost answer the cluster is *looked at* before anything is asked
for again.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction

from accounts import crypto
from accounts.sql import after_commit
from clusters.connect import Misconfigured, connect
from clusters.identity import OtherCluster, confirm_identity
from operations import canceling, ending, history, lanes, queue, trouble
from operations.ending import CONTINUE, NOT_YET, Move, Signal
from operations.lease import Lease, LeaseLost, heartbeat
from operations.models import CANCELED, FAILED, QUEUED, RUNNING
from operations.moves import Moves
from operations.plans import Act, Done, Job, Step, StepFailed, UnknownHere, Verdict, Wait, plan_for
from operations.poller import BACKSTOP_S
from proxmox import (
    NotFound,
    OutcomeUnknown,
    ProxmoxError,
    Unauthorized,
    Unreachable,
    Upid,
    classify_task_error,
)

log = structlog.get_logger(__name__)


def take_turn(pk: int) -> float | None:
    """Carry the operation as far as it goes now.

    Returns the seconds after which it wants another turn, or None when nobody needs to come back:
    it ended, somebody else has it, or it is not due.
    """
    lease = Lease.take(pk)
    if lease is None:
        return None
    with (
        heartbeat.keeping(lease),
        structlog.contextvars.bound_contextvars(**lease.operation.log_ids),
    ):
        try:
            move = Turn(lease).run()
            return None if isinstance(move, Signal) else move
        except LeaseLost as error:
            log.warning("lease_lost", reason=str(error))
            return None
        except DatabaseError:
            # Nothing can be written down: the lease runs out and the next worker looks again.
            log.exception("turn_cut_off_by_the_database")
            return None
        except UnknownHere as error:
            log.warning("left_to_the_newer_version", reason=str(error))
            return trouble.crashed(lease, error)
        except Exception as error:
            log.exception("turn_crashed")
            return trouble.crashed(lease, error)


def following(upid: Upid) -> str:
    """What an operation says while Proxmox works for it."""
    return f"Proxmox task {upid.type} on {upid.node}"


class Turn(Moves):
    """One worker's turn at one operation: what to do next, from what the row and Proxmox say."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease, plan_for(lease.operation.kind))
        self.plan.check_knows(self.operation.planned)
        self.ends = time.monotonic() + settings.ENGINE["turn_s"]

    def run(self) -> Move:
        if self.operation.state == QUEUED:
            if self.operation.cancel_requested_at:
                return ending.end(self.lease, CANCELED)
            # Who stands in line has not begun.
            if not lanes.is_in_line(self.operation):
                self.begin()
        if not self.operation.cluster.is_enabled:
            return self.come_back(
                30, waiting_for=f"{self.operation.cluster} to be switched on again"
            )
        try:
            self.job: Job = self.plan.open(
                self.operation,
                connect(self.operation.cluster, call_s=settings.ENGINE["call_s"]),
            )
        except crypto.Unsealable as error:
            # Nothing was or can be asked: no cluster can be reached without its secret.
            return ending.end(self.lease, FAILED, code="secret_unreadable", error=str(error))
        except Misconfigured as error:
            return trouble.silent(self.lease, error)
        except StepFailed as error:
            return ending.end(self.lease, FAILED, code=error.code, error=error.message)
        self.job.write = self.lease.write
        move: Move = CONTINUE
        while move is CONTINUE:
            if time.monotonic() > self.ends:
                return self.come_back(0)
            move = self.move()
        return move

    def begin(self) -> None:
        now = self.lease.now()
        self.lease.write(state=RUNNING, started_at=now, step_started_at=now)

    def move(self) -> Move:
        """One move; CONTINUE when the next can follow at once."""
        step = self.plan.find(self.operation.step)
        try:
            self.refuse_other_cluster()
            if self.operation.cancel_requested_at and not self.operation.is_undoing:
                move = canceling.honour(self.lease, self.plan, step, self.job)
                if move is not NOT_YET:
                    return move
            if self.operation.upid:
                with structlog.contextvars.bound_contextvars(upid=self.operation.upid):
                    return self.follow_task(step)
            if self.operation.submitted_at:
                return self.look_after_lost_answer(step)
            return self.look_and_act(step)
        except OtherCluster as error:
            wanted = f"{self.operation.cluster} to answer at its address: {error}"
            return self.come_back(30, waiting_for=wanted[:500])
        except StepFailed as error:
            return ending.fail(self.lease, error.code, error.message)
        except ProxmoxError as error:
            return trouble.proxmox_error(self.lease, step, error, self.job)

    def refuse_other_cluster(self) -> None:
        """Before anything is asked of it, or believed. Raises OtherCluster, ProxmoxError."""
        try:
            confirm_identity(self.operation.cluster, self.job.client)
        except (Unreachable, Unauthorized):
            raise
        except ProxmoxError:
            # Who may not ask that may have all the rights that the steps need.
            return

    # --- looking and acting ---

    def look_and_act(self, step: Step[Any]) -> Move:
        if not step.is_needed(self.job):
            return self.finish(step, is_skipped=True)
        if not self.operation.attempts:
            if wait := step.prepare(self.job):
                # Nobody who may not go on keeps others from it.
                lanes.leave(self.operation)
                return self.wait(step, wait.reason, wait.check_s)
            # Who has to stand in line does it first, and asks Proxmox once it is called.
            wanted = list(step.lanes(self.job.params))
            if wanted and lanes.must_wait(self.operation, wanted):
                place = lanes.admit(self.operation, wanted)
                if place:
                    return self.stand_in_line(step, place)
            if self.operation.state == QUEUED:
                self.begin()
        return self.follow_verdict(step, step.look(self.job))

    def follow_verdict(self, step: Step[Any], verdict: Verdict) -> Move:
        if isinstance(verdict, Done):
            return self.finish(step)
        if isinstance(verdict, Wait):
            return self.wait(step, verdict.reason, verdict.check_s)
        if self.operation.acted_at:
            return self.settle(step, verdict)
        if place := lanes.admit(self.operation, step.lanes(self.job.params)):
            return self.stand_in_line(step, place)
        return self.submit(step)

    def stand_in_line(self, step: Step[Any], place: lanes.Place) -> Move:
        delay = self.wait(step, str(place), place.check_s, counts=False)
        if not lanes.is_in_line(self.operation):
            # Called before the wait was written down, and nobody calls twice.
            lanes.call(self.operation)
        return delay

    def settle(self, step: Step[Any], verdict: Act) -> Move:
        """Proxmox said OK, the state is not there (yet)."""
        since = self.seconds_since(self.operation.acted_at)
        if since >= step.settle_s:
            return ending.fail(
                self.lease, "no_effect", f"Proxmox reported success, but {verdict.missing}."
            )
        return self.wait(step, f"Proxmox to show it: {verdict.missing}", 0.3 if since < 5 else 1.0)

    def submit(self, step: Step[Any]) -> Move:
        """Stamp, call, save the UPID: the only place that changes anything in Proxmox."""
        if step.is_at_most_once:
            self.job.notes["tasks_before"] = step.find_task(self.job)
        # Taken before the stamp: a worker that was frozen in between sends nothing.
        self.job.call_ends = time.monotonic() + settings.ENGINE["call_s"]
        now = self.lease.now()
        self.lease.write(
            submitted_at=now,
            call_ends_at=now + datetime.timedelta(seconds=settings.ENGINE["call_s"]),
            attempts=self.operation.attempts + 1,
            notes=self.job.notes,
            waiting_for="",
        )
        try:
            upid = self.ask(step)
        except OutcomeUnknown as error:
            return self.answer_lost(step, error)
        except (Unreachable, Unauthorized):
            self.lease.write(submitted_at=None)
            raise
        except ProxmoxError as error:
            self.lease.write(submitted_at=None)
            return self.refused(step, error)
        if upid is None:
            self.lease.write(
                submitted_at=None,
                acted_at=self.lease.now(),
                notes=self.job.notes,
                silent_since=None,
                waiting_since=None,
            )
            return CONTINUE
        self.adopt(step, upid)
        return None

    def ask(self, step: Step[Any]) -> Upid | None:
        try:
            return step.act(self.job)
        finally:
            self.job.forget_observations()

    def answer_lost(self, step: Step[Any], error: OutcomeUnknown) -> Move:
        """Our call is over, so that only Proxmox may still be acting on it."""
        log.warning("answer_lost", step=step.name, error=str(error))
        now = self.lease.now()
        return self.come_back(
            0.5,
            call_ends_at=now,
            silent_since=self.operation.silent_since or now,
            waiting_for=f"Proxmox to show whether it took the request: {error}"[:500],
        )

    def refused(self, step: Step[Any], error: ProxmoxError) -> Move:
        """The state decides first: somebody, or an earlier call of ours, may have done it."""
        if not step.is_at_most_once and isinstance(step.look(self.job), Done):
            return self.finish(step)
        self.lease.write(
            upid="",
            task_exit="",
            submitted_at=None,
            acted_at=None,
            silent_since=None,
            waiting_since=None,
        )
        return trouble.proxmox_error(self.lease, step, error, self.job)

    def adopt(self, step: Step[Any], upid: Upid) -> None:
        """Let go of the lease and leave the waiting to the poller."""
        log.info("proxmox_task_started", step=step.name, upid=str(upid))
        with transaction.atomic():
            self.lease.release(
                upid=str(upid),
                task_exit="",
                notes=self.job.notes,
                steps=history.with_step(
                    self.operation, step.name, self.lease.now(), upid=str(upid)
                ),
                silent_since=None,
                waiting_since=None,
                due_at=self.lease.now() + datetime.timedelta(seconds=BACKSTOP_S),
                waiting_for=following(upid),
            )
            after_commit(queue.send, "operations.poll", self.operation.cluster_id)

    # --- following a task ---

    def follow_task(self, step: Step[Any]) -> Move:
        upid = Upid.parse(self.operation.upid)
        ended_as = self.operation.task_exit
        if not ended_as:
            try:
                status = self.job.client.task_status(upid, timeout_s=10)
            except NotFound:
                return self.task_vanished(upid)
            if status.is_running:
                # It answers, so a silence that was there is over.
                return self.come_back(BACKSTOP_S, silent_since=None, waiting_for=following(upid))
            ended_as = status.exit_status or "unexpected status"
        log.info("proxmox_task_ended", step=step.name, exit_status=ended_as)
        if ended_as == "OK" or ended_as.startswith("WARNINGS"):
            return self.task_succeeded(step, upid, ended_as)
        return self.task_failed(step, upid, ended_as)

    def task_vanished(self, upid: Upid) -> Move:
        """Just after the POST Proxmox may not know it yet; later it is a lost answer."""
        since = self.seconds_since(self.operation.submitted_at)
        if since < settings.ENGINE["grace_s"]:
            return self.come_back(1.0, waiting_for=f"Proxmox to list task {upid.type}")
        self.lease.write(upid="", task_exit="")
        return CONTINUE

    def task_succeeded(self, step: Step[Any], upid: Upid, ended_as: str) -> Move:
        warnings = self.operation.warnings
        if ended_as.startswith("WARNINGS"):
            lines = [line for line in self.log_of(upid) if line.startswith("WARN")]
            warnings = warnings + (lines or [ended_as])
        self.lease.write(
            upid="",
            task_exit="",
            submitted_at=None,
            acted_at=self.lease.now(),
            warnings=warnings,
            silent_since=None,
            trouble_since=None,
        )
        return CONTINUE

    def task_failed(self, step: Step[Any], upid: Upid, ended_as: str) -> Move:
        return self.refused(step, classify_task_error(ended_as, self.log_of(upid)))

    def log_of(self, upid: Upid) -> Sequence[str]:
        """For causes and warnings; how the task ended is known without it."""
        try:
            return self.job.client.task_log(upid, timeout_s=10)
        except ProxmoxError as error:
            log.warning("task_log_unread", upid=str(upid), error=str(error))
            return ()

    # --- lost answers ---

    def look_after_lost_answer(self, step: Step[Any]) -> Move:
        """The call was stamped, its answer never stored: a crash, or a cut connection."""
        if step.is_at_most_once:
            return self.find_lost_task(step)
        verdict = step.look(self.job)
        if not isinstance(verdict, Act):
            return self.follow_verdict(step, verdict)
        if self.may_still_happen():
            return self.come_back(1.0)
        lost_for = self.seconds_since(self.operation.silent_since)
        if lost_for > settings.ENGINE["unreachable_patience_s"]:
            return ending.fail(
                self.lease,
                "outcome_unknown",
                f"Asked {self.operation.attempts} times in {lost_for:.0f} s, the answer was lost "
                f"each time, and still {verdict.missing}.",
            )
        self.lease.write(submitted_at=None, acted_at=None)
        return CONTINUE

    def may_still_happen(self) -> bool:
        """A frozen worker could still send the call, or Proxmox be at work on it."""
        if self.operation.call_ends_at is None:  # stamped by older code
            deadline = settings.ENGINE["call_s"] + settings.ENGINE["grace_s"]
            return self.seconds_since(self.operation.submitted_at) < deadline
        return self.seconds_since(self.operation.call_ends_at) < settings.ENGINE["grace_s"]

    def find_lost_task(self, step: Step[Any]) -> Move:
        before = set(self.job.notes.get("tasks_before", []))
        new = [upid for upid in step.find_task(self.job) if upid not in before]
        if new:
            self.adopt(step, Upid.parse(new[0]))
            return None
        if self.may_still_happen():
            return self.come_back(1.0)
        return ending.fail(
            self.lease,
            "outcome_unknown",
            f"The answer to {step.name} was lost and Proxmox shows no task of it; "
            "it was not sent again, because it could then happen twice.",
        )
