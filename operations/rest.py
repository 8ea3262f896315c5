"""Answering a request whose work goes on: 202, where to follow it, and what to wait for."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, NamedTuple

import orjson
from django.db.models import TextField
from django.db.models.functions import Cast
from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.prepared import Columns
from accounts.rest import NothingSerializer, actor_of, parse
from operations import idempotency
from operations.models import ENDED, RUNNING, SUCCEEDED, IdempotencyKey, Operation
from operations.plans import UnknownHere, plan_for
from operations.refusals import InvalidInput

# Read and removed by the wait layer; it never leaves the process.
AWAIT_HEADER = "X-Izvor-Await"

# What an answer says beside the task, by kind; the app that registers a kind's plan says how.
View = Callable[..., Response]
KEY_LENGTH_MAX = 255
Renderer = Callable[[Operation], dict[str, Any]]
AllRenderer = Callable[[list[Operation]], list[dict[str, Any]]]
# How an object that was made or changed at once is shown, by the word before its uuid.
ObjectRenderer = Callable[[Request, str], dict[str, Any]]
_objects: dict[str, ObjectRenderer] = {}


@dataclass(frozen=True)
class Body:
    """How answers about one kind look. `one` and `many` name the object in a batch's answer, and
    `all_of` gives those of a batch, in its order."""

    render: Renderer
    status: int
    one: str
    many: str
    all_of: AllRenderer | None


_bodies: dict[str, Body] = {}


def renders(
    *kinds: str,
    created: bool = False,
    one: str = "",
    many: str = "",
    all_of: AllRenderer | None = None,
) -> Callable[[Renderer], Renderer]:
    """The body of answers about these kinds: when accepted, when asked again, and at the end."""

    def keep(renderer: Renderer) -> Renderer:
        for kind in kinds:
            _bodies[kind] = Body(renderer, 201 if created else 200, one, many, all_of)
        return renderer

    return keep


def shows(kind: str) -> Callable[[ObjectRenderer], ObjectRenderer]:
    """The body of answers about an object of this kind, when it is asked for again."""

    def keep(renderer: ObjectRenderer) -> ObjectRenderer:
        _objects[kind] = renderer
        return renderer

    return keep


def body_of(operation: Operation) -> dict[str, Any]:
    return {
        **_bodies[operation.kind].render(operation),
        "task_id": str(operation.uuid),
        "task": task_body(operation),
    }


def body_of_all(operations: list[Operation]) -> dict[str, Any]:
    """Of one request's operations: a batch's as lists, even where it is a batch of one."""
    first = operations[0]
    if not first.params.get("batch"):
        return body_of(first)
    body = _bodies[first.kind]
    assert body.all_of, "only what can be batched is"
    return {
        body.many: body.all_of(operations),
        "tasks": [task_body(operation) for operation in operations],
    }


def accepted(*operations: Operation, wanted: str = SUCCEEDED) -> Response:
    """202, with the task's address; the wait layer holds it back for who prefers to wait, until the
    state that is wanted, or another end."""
    uuids = [str(operation.uuid) for operation in operations]
    headers = {"Location": f"/api/v1/tasks/{uuids[0]}", AWAIT_HEADER: ",".join([wanted, *uuids])}
    return Response(body_of_all(list(operations)), status=202, headers=headers)


def again(request: Request, known: IdempotencyKey, wanted: str) -> Response:
    """The first request's result; what is shown only once, such as a secret, is not in it."""
    operations = idempotency.operations_of(known)
    if operations:
        return accepted(*operations, wanted=wanted)
    kind, _, uuid = known.made.partition(":")
    return Response(_objects[kind](request, uuid) if kind else None, status=known.status)


def idempotent(view: View, *, wanted: str = SUCCEEDED) -> View:
    """For views that change something: a request sent again gets the first one's result. No
    deletion takes a body. A dry run changes nothing, so that its key is not looked at."""

    @wraps(view)
    def answered(self: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
        if request.method == "DELETE":
            parse(NothingSerializer, request)
        asked = None if flag_of(request, "dry_run") else idempotency_key(request)
        if asked is None:
            return view(self, request, *args, **kwargs)
        with idempotency.alone(asked):
            known = idempotency.known_result(asked)
            if known is not None:
                return again(request, known, wanted)
            with idempotency.carrying(asked):
                return view(self, request, *args, **kwargs)

    return answered


def idempotency_key(request: Request) -> idempotency.Asked | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not (0 < len(key) <= KEY_LENGTH_MAX and key.isascii() and key.isprintable()):
        raise InvalidInput(
            "Idempotency-Key", f"Give 1 to {KEY_LENGTH_MAX} printable ASCII characters."
        )
    actor = actor_of(request)
    body = json.dumps(request.data, sort_keys=True)
    return idempotency.Asked(
        caller=f"{actor.token_id or 0}:{actor.name}",
        key=key,
        digest=idempotency.digest_of(f"{request.method} {request.get_full_path()} {body}"),
    )


def final_answer(operations: list[Operation]) -> tuple[int, dict[str, Any], str]:
    """What a request that waited gets when its operations have ended as was wanted: status, body,
    and where the one object is that was made ("")."""
    first = operations[0]
    shape, body = _bodies[first.kind], body_of_all(operations)
    if first.state != SUCCEEDED:
        return 200, body, ""
    made = body.get(shape.one) if shape.status == 201 else None
    return shape.status, body, f"/api/v1/{shape.many}/{made['uuid']}" if made else ""


class Shown(NamedTuple):
    """What of an operation its body shows: a list reads no more, and makes no models."""

    pk: int
    uuid: str
    kind: str
    state: str
    subject_label: str
    by: str
    placement: orjson.Fragment | None
    steps: list[dict[str, Any]]
    step: str
    is_undoing: bool
    upid: str
    progress: int
    waiting_for: str
    warnings: list[str]
    error: str
    error_code: str
    created_at: datetime.datetime
    started_at: datetime.datetime | None
    ended_at: datetime.datetime | None

    @property
    def is_ended(self) -> bool:
        return self.state in ENDED


READ: dict[str, Any] = {name: name for name in Shown._fields} | {
    "uuid": Cast("uuid", TextField()),
    "placement": "params__placement",
}
COLUMNS = Columns(lambda: Operation.objects.values_list(*READ.values()))
# These come as JSON's text.
PLACEMENT, STEPS = Shown._fields.index("placement"), Shown._fields.index("steps")


def body_of_row(row: Sequence[Any]) -> dict[str, Any]:
    """As `task_body`, of a row of `COLUMNS`."""
    values = list(row)
    values[STEPS] = orjson.loads(values[STEPS])
    if values[PLACEMENT] is not None:
        values[PLACEMENT] = orjson.Fragment(values[PLACEMENT])
    return task_body(Shown._make(values))


def task_body(operation: Operation | Shown) -> dict[str, Any]:
    """A task as the API shows it."""
    upids = [upid for step in operation.steps for upid in step["upids"]]
    upid = operation.upid or (upids[-1] if upids else None)
    return {
        "id": str(operation.uuid),
        "type": operation.kind,
        "status": operation.state,
        "upid": upid,
        "node": upid.split(":")[1] if upid else None,
        "vmid": operation.subject_label.split(" ")[0] or None,
        "placement": operation.placement,
        "progress": operation.progress,
        "step": None if operation.is_ended else operation.step,
        "steps": steps_body(operation),
        "waiting_for": operation.waiting_for or None,
        "warnings": operation.warnings,
        "error": operation.error or None,
        "error_code": operation.error_code or None,
        "exit_status": exit_status(operation),
        "user": operation.by,
        "created_at": operation.created_at,
        "start_time": operation.started_at,
        "end_time": operation.ended_at,
    }


def exit_status(operation: Operation | Shown) -> str | None:
    """In Proxmox's manner: OK, WARNINGS: n, or the error."""
    if not operation.is_ended:
        return None
    if operation.error:
        return operation.error
    return f"WARNINGS: {len(operation.warnings)}" if operation.warnings else "OK"


def steps_body(operation: Operation | Shown) -> list[dict[str, Any]]:
    """The steps taken, the present one, and those to come."""
    steps = operation.steps
    if not operation.is_ended:
        taken = {step["name"] for step in steps}
        to_come = [name for name in steps_to_come(operation) if name not in taken]
        steps = [*steps, *({"name": name, "upids": []} for name in to_come)]
    return [_step_body(operation, step) for step in steps]


def steps_to_come(operation: Operation | Shown) -> list[str]:
    """The present one first; none of a plan that this version does not know."""
    try:
        plan = plan_for(operation.kind)
    except UnknownHere:
        return []
    line = [step.name for step in plan.line(is_undoing=operation.is_undoing)]
    return line[line.index(operation.step) :] if operation.step in line else []


def _step_body(operation: Operation | Shown, step: dict[str, Any]) -> dict[str, Any]:
    ended_at = _moment(step.get("ended_at"))
    if ended_at:
        status = "done"
    elif operation.is_ended:
        status, ended_at = "failed", operation.ended_at
    else:
        is_on = step["name"] == operation.step and operation.state == RUNNING
        status = "running" if is_on else "waiting"
    return {
        "name": step["name"],
        "status": status,
        "upids": step["upids"],
        "started_at": _moment(step.get("started_at")),
        "ended_at": ended_at,
    }


def _moment(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None


def flag_of(request: Request | HttpRequest, name: str) -> bool:
    """A query parameter that is true or false: `refresh` (ask Proxmox first), `dry_run`."""
    raw = request.GET.get(name, "false").lower()
    if raw not in {"1", "true", "yes", "0", "false", "no"}:
        raise InvalidInput(name, "Give true or false.")
    return raw in {"1", "true", "yes"}
