"""Trying a failed operation again: a new one with the same words, from the step that failed."""

from __future__ import annotations

import datetime

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts.actors import Actor
from accounts.request_id import current_request_id
from operations import idempotency
from operations.enqueue import write_down
from operations.models import ENDED, FAILED, SUCCEEDED, UNFINISHED, Operation
from operations.plans import Plan, plan_for
from operations.refusals import Conflict

# How long a failed operation can be retried, and keeps its secrets for that.
WINDOW = datetime.timedelta(hours=24)


@transaction.atomic
def retry(operation: Operation, *, by: Actor) -> Operation:
    """Raises Conflict when it did not fail, was retried, is too old, or its subject is claimed;
    and whatever Refusal its plan has against it."""
    failed = Operation.objects.select_for_update().get(pk=operation.pk)
    check(failed)
    plan = plan_for(failed.kind)
    begins = plan.find(first_step(failed, plan))
    # First, since it may give the subject another number.
    params = plan.on_retry(failed, by)
    again = Operation(
        retry_of=failed,
        kind=failed.kind,
        cluster=failed.cluster,
        project_id=failed.project_id,
        subject=failed.subject,
        params=params,
        subject_label=failed.subject_label,
        sealed_params=failed.sealed_params,
        has_secrets=failed.has_secrets,
        wants=failed.wants,
        by=by.name,
        request_id=current_request_id() or "",
        step=begins.name,
        steps=[] if failed.notes.get("undone") else done_steps(failed),
        notes={} if failed.notes.get("undone") else failed.notes,
    )
    # The new one has them now.
    Operation.objects.filter(pk=failed.pk).update(sealed_params="")
    write_down([again], retry_of=str(failed.uuid))
    idempotency.note([again])
    return again


def check(failed: Operation) -> None:
    if failed.state != FAILED:
        how = "has" if failed.state == SUCCEEDED else "is"
        raise Conflict(
            "not_failed",
            f"Task {failed.uuid} {how} {failed.state}; only a failed one can be retried.",
        )
    retries = failed.retries.order_by("-pk")
    has_given_all = failed.has_secrets and not failed.sealed_params
    # Its secrets are the newest one's.
    counting = retries if has_given_all else retries.filter(state__in=(*UNFINISHED, SUCCEEDED))
    other = counting.first()
    if other is not None:
        raise Conflict("already_retried", f"Task {failed.uuid} was retried: see {other.uuid}.")
    if is_over(failed) or has_given_all:
        raise Conflict(
            "retry_window_over",
            f"Task {failed.uuid} failed over a day ago; look whether it is still wanted, ask anew.",
        )


def is_over(failed: Operation) -> bool:
    return failed.ended_at is not None and failed.ended_at < timezone.now() - WINDOW


def first_step(failed: Operation, plan: Plan) -> str:  # type: ignore[type-arg]
    """The one that failed; the plan's first where all it had made was undone."""
    if failed.notes.get("undone"):
        return plan.steps[0].name
    return str(failed.notes.get("failed_step", failed.step))


def done_steps(failed: Operation) -> list[dict[str, object]]:
    """What it did before it failed, as the new one's history."""
    names = {step.name for step in plan_for(failed.kind).steps}
    return [step for step in failed.steps if step.get("ended_at") and step["name"] in names]


def erase_secrets() -> None:
    """Of operations that can no longer be retried."""
    Operation.objects.filter(
        ~Q(sealed_params=""), state__in=ENDED, ended_at__lt=Now() - WINDOW
    ).update(sealed_params="")
