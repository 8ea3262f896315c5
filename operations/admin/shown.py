"""How tasks look in the admin, on their own pages and on those of what they work on."""

from __future__ import annotations

import datetime
from typing import Any

from django.db.models import BooleanField, Exists, ExpressionWrapper, OuterRef, Q, QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin_site import BAD, BUSY, CALM, GOOD, WARN, badge, lasted
from accounts.admin_verbs import link_to
from operations.bodies import task_body
from operations.enqueue import check_cancelable
from operations.models import (
    CANCELED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    UNFINISHED,
    Operation,
    title_of,
)
from operations.refusals import Refusal
from operations.retrying import is_over

TONES = {QUEUED: CALM, RUNNING: BUSY, SUCCEEDED: GOOD, FAILED: BAD, CANCELED: WARN}
# What a list of tasks does not show, and may be long.
UNSHOWN = ("params", "sealed_params", "notes", "steps", "wants", "task_exit")


def with_retries(operations: QuerySet[Operation]) -> QuerySet[Any]:
    """With `is_retried` (one that came of it goes on, or went well) and `keeps_secrets`."""
    came_of_it = Operation.objects.filter(
        retry_of=OuterRef("pk"), state__in=(*UNFINISHED, SUCCEEDED)
    )
    # Whether, and not which: what is sealed may be long.
    keeps = ExpressionWrapper(~Q(sealed_params=""), output_field=BooleanField())
    return operations.annotate(is_retried=Exists(came_of_it), keeps_secrets=keeps)


def can_cancel(operation: Operation) -> bool:
    if operation.is_ended or operation.cancel_requested_at:
        return False
    try:
        check_cancelable(operation)
    except Refusal:
        return False
    return True


def can_retry(operation: Any) -> bool:
    if operation.state != FAILED or operation.is_retried or is_over(operation):
        return False
    return bool(operation.keeps_secrets or not operation.has_secrets)


def state_badge(operation: Operation, *, is_link: bool = False) -> SafeString:
    state = "canceling" if is_being_canceled(operation) else operation.state
    href = reverse("admin:operations_operation_change", args=[operation.pk]) if is_link else ""
    return badge(state, TONES[operation.state], href=href)


def is_being_canceled(operation: Operation) -> bool:
    return bool(operation.cancel_requested_at) and not operation.is_ended


def progress_bar(operation: Operation) -> SafeString:
    return format_html(
        '<progress class="iz-progress iz-{}" max="100" value="{}">{} %</progress>',
        TONES[operation.state],
        operation.progress,
        operation.progress,
    )


def step_now(operation: Operation) -> SafeString:
    if operation.is_ended:
        return SafeString("")
    step, bar = operation.step.replace("_", " "), progress_bar(operation)
    return format_html('<span class="iz-nowrap">{} {}</span>', step, bar)


def why(operation: Operation) -> SafeString:
    """What it waits for, or failed with."""
    text = operation.waiting_for or operation.error
    return format_html('<span class="iz-why" title="{}">{}</span>', text, text)


def subject_link(operation: Operation) -> SafeString:
    """To the VM or template, deleted or not."""
    label = operation.subject_label or "-"
    if operation.subject is None:
        return format_html("{}", label)
    url = reverse("admin:vms_virtualmachine_by_uuid", args=[operation.subject])
    return format_html('<a class="iz-link" href="{}">{}</a>', url, label)


def words_and_link(operation: Operation) -> SafeString:
    """A link to a task, in words, with its state."""
    return format_html("{} ({})", link_to(operation, str(operation)), operation.state)


def task_link(operation: Operation) -> SafeString:
    return format_html("{} is under way.", link_to(operation, f"Task {title_of(operation.kind)}"))


def took(operation: Operation) -> str:
    """From the request to the end, or until now."""
    return lasted((operation.ended_at or timezone.now()) - operation.created_at)


def steps_of(operation: Operation) -> list[dict[str, Any]]:
    """The steps with how long each took, or takes."""
    steps: list[dict[str, Any]] = task_body(operation)["steps"]
    now = timezone.now()
    for step in steps:
        started, ended = _moment(step["started_at"]), _moment(step["ended_at"])
        step["took"] = step_time(started, ended, operation.ended_at or now)
        step["title"] = step["name"].replace("_", " ")
    return steps


def _moment(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None


def step_time(
    started: datetime.datetime | None, ended: datetime.datetime | None, now: datetime.datetime
) -> str:
    if started is None:
        return ""
    seconds = ((ended or now) - started).total_seconds()
    return f"{seconds:.1f} s" if seconds < 100 else lasted(datetime.timedelta(seconds=seconds))


def lasted_s(seconds: float) -> str:
    return lasted(datetime.timedelta(seconds=seconds))
