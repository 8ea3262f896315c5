"""Writing an operation down: from here on it is Izvor's promise."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from accounts import crypto
from accounts.actors import Actor
from accounts.prepared import Insert
from accounts.request_id import current_request_id
from clusters.models import Cluster
from operations import ending, idempotency, lanes, queue
from operations.claims import take_claims
from operations.history import record_task_event, record_task_events
from operations.models import CANCELED, QUEUED, UNFINISHED, Operation
from operations.plans import Cancel, plan_for
from operations.refusals import Conflict

# Due in so many seconds, by Postgres' clock.
_INSERT = Insert(
    Operation, due_at=("float", "STATEMENT_TIMESTAMP() + make_interval(secs => due_at)")
)


def enqueue(
    kind: str, *, cluster: Cluster, by: Actor, after: Operation | None = None, **asked: Any
) -> Operation:
    """Write an operation down, in the caller's transaction; `asked` as `new_operation` takes it.
    Raises Claimed.

    With `after` it takes its claims when that one ends.
    """
    operation = new_operation(kind, cluster=cluster, by=by, **asked)
    if after is not None and not has_ended(after):
        operation.after = after
    write_down([operation])
    idempotency.note([operation])
    return operation


def ask_keys(count: int) -> Callable[[], list[int]]:
    """Keys for operations to come, as `accounts.sql.ask`."""
    return _INSERT.ask_keys(count)


def new_operation(
    kind: str,
    *,
    cluster: Cluster,
    by: Actor,
    wants: Iterable[tuple[str, str]],
    subject: uuid.UUID | None = None,
    label: str = "",
    project_id: int | None = None,
    params: Mapping[str, Any] | None = None,
    secrets: Mapping[str, Any] | None = None,
) -> Operation:
    """One that nobody has written down yet. `wants` are its claims, pairs of (object, mode)."""
    return Operation(
        kind=kind,
        cluster=cluster,
        project_id=project_id,
        subject=subject,
        subject_label=label,
        params=dict(params or {}),
        sealed_params=crypto.seal(json.dumps(secrets)) if secrets else "",
        has_secrets=bool(secrets),
        by=by.name,
        request_id=current_request_id() or "",
        wants=[list(pair) for pair in wants],
        step=plan_for(kind).steps[0].name,
    )


def write_down(
    operations: list[Operation],
    *,
    subjects_are_new: bool = False,
    filled: lanes.Filled | None = None,
    **data: str,
) -> None:
    """Save new operations of one kind on one cluster, take their claims and hint at them. Where
    their step has to stand in line they do so at once, and are called. Raises Claimed.

    Whoever calls it notes them under their request's Idempotency-Key, in the same transaction.

    The subjects' rows are locked first (`on_claim`), then the claims: everybody does it in this
    order, so that two actions on one VM wait for one another but never both. Subjects that are new
    were written with their operations' names, and nobody else knows them yet. `filled` are lanes
    that were read already.
    """
    first = operations[0]
    plan = plan_for(first.kind)
    ready = [one for one in operations if one.after is None]
    wanted = [dict(plan.find(one.step).lanes(one.params)) for one in ready]
    places = lanes.ends_of_line(first.cluster_id, wanted, filled)
    for one in operations:
        one.planned = plan.names
        one.waiting_for = f"task {one.after.uuid} ({one.after}) to end" if one.after else ""
    # Who waits behind another is due when that one ends.
    due_in_s: dict[uuid.UUID, float] = {}
    for one, place in zip(ready, places, strict=True):
        one.waiting_for = str(place or "")
        due_in_s[one.uuid] = place.check_s if place else 0.0
    written = _INSERT.ask(operations, due_at=[due_in_s.get(one.uuid) for one in operations])
    if first.pk is None:
        # Who came with keys need not wait for them.
        written()
    record_task_events("task.accepted", operations, **data)
    if ready:
        if not subjects_are_new:
            plan.on_claim(ready)
        lanes.stand(ready, wanted)
        take_claims(ready)
    for one in ready:
        if not one.waiting_for:
            queue.hint(one)


def has_ended(operation: Operation) -> bool:
    """Has it, by now? If not, it cannot until this transaction is over."""
    return bool(Operation.objects.select_for_update().get(pk=operation.pk).is_ended)


def secrets_of(operation: Operation) -> dict[str, Any]:
    """What was sealed with it. Raises crypto.Unsealable."""
    return json.loads(crypto.unseal(operation.sealed_params) or "{}")  # type: ignore[no-any-return]


@transaction.atomic
def request_cancel(operation: Operation, *, by: Actor) -> None:
    """Ask the operation to stop where it can; its next turn does it.

    Raises Conflict when it has ended, or is past the point of return.
    """
    operation = Operation.objects.select_for_update().get(pk=operation.pk)
    check_cancelable(operation)
    asked = Operation.objects.filter(pk=operation.pk, cancel_requested_at=None).update(
        cancel_requested_at=Now(), cancel_by=by.name
    )
    if asked:
        record_task_event("task.cancel_requested", operation, by=by)
    if operation.state == QUEUED and operation.after_id is not None:
        cancel_in_line(operation)
    else:
        queue.wake(operation)


def check_cancelable(operation: Operation) -> None:
    """Raises Conflict when it has ended, or is past the point of return."""
    if operation.is_ended:
        how = "was canceled" if operation.state == CANCELED else f"has {operation.state}"
        raise Conflict("task_ended", f"Task {operation.uuid} {how} already.")
    plan = plan_for(operation.kind)
    way = plan.cancel_of(plan.find(operation.step))
    if operation.is_undoing or (operation.state != QUEUED and way is Cancel.NOT_CANCELABLE):
        doing = "being undone" if operation.is_undoing else f"in step {operation.step}"
        raise Conflict(
            "not_cancelable", f"Task {operation.uuid} is {doing} and cannot be canceled there."
        )


def cancel_in_line(operation: Operation) -> None:
    """One that waits behind another has touched nothing: it ends at once."""
    rows = Operation.objects.filter(Q(lease_until=None), pk=operation.pk, state=QUEUED).update(
        state=CANCELED,
        ended_at=Now(),
        error_code="canceled",
        error="Canceled in line.",
        waiting_for="",
        sealed_params="",
    )
    if rows:
        operation.refresh_from_db()
        ending.settle_end(operation, CANCELED)


def holder_of(name: str) -> Operation | None:
    """The unfinished operation that has the exclusive claim on this object."""
    return Operation.objects.filter(
        state__in=UNFINISHED, claims__object=name, claims__mode="exclusive"
    ).first()
