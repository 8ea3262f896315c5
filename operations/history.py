"""What is told of an operation: the steps it has taken, as the API shows them, and its events."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from accounts.actors import Actor
from events.models import Event, new_event, record_events
from operations.models import Operation


def with_step(
    operation: Operation,
    name: str,
    now: datetime.datetime,
    *,
    upid: str = "",
    has_ended: bool = False,
) -> list[Any]:
    """The operation's `steps` with this one brought up to date."""
    steps = [dict(entry) for entry in operation.steps]
    if not steps or steps[-1]["name"] != name:
        started = operation.step_started_at or now
        steps.append({"name": name, "started_at": started.isoformat(), "upids": []})
    if upid and upid not in steps[-1]["upids"]:
        steps[-1]["upids"] = [*steps[-1]["upids"], upid]
    if has_ended:
        steps[-1]["ended_at"] = now.isoformat()
    return steps


def record_task_event(kind: str, operation: Operation, *, by: Actor | str, **data: Any) -> None:
    """In the transaction that makes it true."""
    record_events([new_task_event(kind, operation, by=by, **data)])


def record_task_events(kind: str, operations: Iterable[Operation], **data: Any) -> None:
    """Of each, by who asked for it."""
    record_events([new_task_event(kind, one, by=one.by, **data) for one in operations])


def new_task_event(kind: str, operation: Operation, *, by: Actor | str, **data: Any) -> Event:
    return new_event(
        kind,
        by=by,
        project_id=operation.project_id,
        subject=operation.subject,
        label=operation.subject_label,
        task=operation.uuid,
        operation=operation.kind,
        **data,
    )
