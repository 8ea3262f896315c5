"""A task as the API shows it, written by Postgres: the only way, for one task and for a thousand.

The steps to come of one that goes on are told by its plan, which only the code knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson
from django.db.models import Case, Func, JSONField, TextField, When
from django.db.models.expressions import Combinable

from accounts.prepared import Columns
from accounts.written import Json, moment, unless_empty
from operations.models import RUNNING, Operation
from operations.plans import UnknownHere, plan_for

# Those taken, and the present one; what an end has cut short has failed then.
_STEPS = """(SELECT concat('[', replace(string_agg(concat(
'{"name":', one -> 'name', ',"status":"', CASE WHEN one ? 'ended_at' THEN 'done'
WHEN ended_at IS NOT NULL THEN 'failed'
WHEN state = 'running' AND step = one ->> 'name' THEN 'running' ELSE 'waiting' END,
'","upids":', one -> 'upids', ',"started_at":', coalesce(one -> 'started_at', 'null'),
',"ended_at":', coalesce((one -> 'ended_at')::text, %(expressions)s), '}'), ','),
'+00:00"', 'Z"'), ']') FROM jsonb_array_elements(steps) AS taken (one))"""
_UPID = "coalesce(nullif(upid, ''), jsonb_path_query_array(steps, '$[*].upids[*]') ->> -1)"
# In Proxmox's manner: OK, WARNINGS: n, or the error.
_EXIT_STATUS = """CASE WHEN ended_at IS NULL THEN NULL WHEN error <> '' THEN error
WHEN cardinality(warnings) = 0 THEN 'OK' ELSE 'WARNINGS: ' || cardinality(warnings) END"""


def text(sql: str) -> Combinable:
    return Func(template=sql, output_field=TextField())


_WRITTEN = Json(
    {
        "id": "uuid",
        "type": "kind",
        "status": "state",
        "upid": text(_UPID),
        "node": text(f"split_part({_UPID}, ':', 2)"),
        "vmid": text("nullif(split_part(subject_label, ' ', 1), '')"),
        "placement": Func(
            template="coalesce(params -> 'placement', 'null')", output_field=JSONField()
        ),
        "progress": "progress",
        "step": Case(When(ended_at=None, then="step")),
        "steps": Func(moment("ended_at"), template=_STEPS, output_field=JSONField()),
        "waiting_for": unless_empty("waiting_for"),
        "warnings": "warnings",
        "error": unless_empty("error"),
        "error_code": unless_empty("error_code"),
        "exit_status": text(_EXIT_STATUS),
        "user": "by",
        "created_at": moment("created_at"),
        "start_time": moment("started_at"),
        "end_time": moment("ended_at"),
    }
)
# The last is None of one that has ended.
COLUMNS = Columns(
    lambda: Operation.objects.values_list(
        "pk", _WRITTEN, Case(When(ended_at=None, then="is_undoing"))
    )
)


def body_of_row(row: Sequence[Any]) -> orjson.Fragment | dict[str, Any]:
    """The body as JSON, of a row of `COLUMNS`."""
    return orjson.Fragment(row[1]) if row[2] is None else _read(row)


def task_body(operation: Operation) -> dict[str, Any]:
    """As the row is now, whatever the model in hand says."""
    (body,) = ask_task_bodies([operation])()
    return body


def task_bodies(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """The same of each; of those written just now as they were read then."""
    if all(one.body for one in operations):
        return [one.body for one in operations if one.body]
    return ask_task_bodies(operations)()


def ask_task_bodies(operations: Sequence[Operation]) -> Callable[[], list[dict[str, Any]]]:
    """The bodies of each, in their order, as `accounts.sql.ask`."""
    keys = [one.pk for one in operations]
    answer = COLUMNS.ask("id = ANY(%s)", [keys], prepare=True)

    def read() -> list[dict[str, Any]]:
        by_key = {row[0]: _read(row) for row in answer()}
        return [by_key[key] for key in keys]

    return read


def _read(row: Sequence[Any]) -> dict[str, Any]:
    _, written, is_undoing = row
    body: dict[str, Any] = orjson.loads(written)
    if is_undoing is not None:
        taken = {step["name"] for step in body["steps"]}
        left = steps_to_come(body["type"], body["step"], is_undoing=is_undoing)
        body["steps"] += [_to_come(name, body) for name in left if name not in taken]
    return body


def _to_come(name: str, body: dict[str, Any]) -> dict[str, Any]:
    is_on = name == body["step"] and body["status"] == RUNNING
    status = "running" if is_on else "waiting"
    return {"name": name, "status": status, "upids": [], "started_at": None, "ended_at": None}


def steps_to_come(kind: str, step: str, *, is_undoing: bool) -> list[str]:
    """The present one first; none of a plan that this version does not know."""
    try:
        plan = plan_for(kind)
    except UnknownHere:
        return []
    line = [one.name for one in plan.line(is_undoing=is_undoing)]
    return line[line.index(step) :] if step in line else []
