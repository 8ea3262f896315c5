"""Answering a request whose work goes on: 202, where to follow it, and what to wait for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.rest import NothingSerializer, actor_of, parse
from clusters.looking import look_now
from operations import idempotency
from operations.bodies import task_bodies
from operations.models import SUCCEEDED, IdempotencyKey, Operation
from operations.refusals import InvalidInput, NotFound

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


def body_of_all(operations: list[Operation]) -> dict[str, Any]:
    """Of one request's operations: a batch's as lists, even where it is a batch of one."""
    first, tasks = operations[0], task_bodies(operations)
    body = _bodies[first.kind]
    if not first.params.get("batch"):
        return {**body.render(first), "task_id": str(first.uuid), "task": tasks[0]}
    assert body.all_of, "only what can be batched is"
    return {body.many: body.all_of(operations), "tasks": tasks}


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
        seen = Operation.objects.visible_to(actor_of(request)).filter(
            pk__in=[o.pk for o in operations]
        )
        if seen.count() != len(operations):
            raise NotFound(
                "task_not_found", "What came of the first request is another project's now."
            )
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


def flag_of(request: Request | HttpRequest, name: str) -> bool:
    """A query parameter that is true or false: `refresh` (ask Proxmox first), `dry_run`."""
    raw = request.GET.get(name, "false").lower()
    if raw not in {"1", "true", "yes", "0", "false", "no"}:
        raise InvalidInput(name, "Give true or false.")
    return raw in {"1", "true", "yes"}


def refresh_if_asked(request: Request) -> None:
    """`?refresh=true`: Proxmox is asked before the cache, on the cluster of `?cluster=` or on all.
    Raises Unavailable."""
    if flag_of(request, "refresh"):
        look_now(request.query_params.get("cluster"))
