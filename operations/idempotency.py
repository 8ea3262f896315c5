"""Idempotency-Key: a request that is sent again gets the first one's result instead of a second VM.

The row is written in the action's own transaction, so it exists exactly if the action happened. It
holds no body: only a keyed digest of what was asked, and which operations came of it, or which
object was made or changed at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import connection
from django.db.models.functions import Now

from accounts.crypto import keyed_digest
from accounts.sql import rows
from operations.models import IdempotencyKey, Operation
from operations.refusals import Conflict

KEPT = timedelta(hours=24)
# Who else has just written it is waited for.
NOTE = """
    INSERT INTO operations_idempotencykey
        (caller, key, digest, operations, status, made, created_at)
    VALUES (%s, %s, %s, %s::uuid[], %s, %s, now())
    ON CONFLICT (caller, key) DO NOTHING RETURNING id
"""


@dataclass(frozen=True)
class Asked:
    """A request that carries a key."""

    caller: str
    key: str
    digest: str


_asked: ContextVar[Asked | None] = ContextVar("asked", default=None)


@contextmanager
def carrying(asked: Asked) -> Iterator[None]:
    """What is enqueued within is noted under the request's key."""
    token = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(token)


def digest_of(request: str) -> str:
    return keyed_digest("request", request)


@contextmanager
def alone(asked: Asked) -> Iterator[None]:
    """Raises Conflict while another request with the same key is under way."""
    name = f"idempotency:{asked.caller}:{asked.key}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        (locked,) = cursor.fetchone()
    if not locked:
        raise in_progress()
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


def in_progress() -> Conflict:
    return Conflict("in_progress", "The first request with this Idempotency-Key is under way.")


def known_result(asked: Asked) -> IdempotencyKey | None:
    """What this key stands for. Raises Conflict when it was for something else."""
    IdempotencyKey.objects.filter(created_at__lt=Now() - KEPT, caller=asked.caller).delete()
    row = IdempotencyKey.objects.filter(caller=asked.caller, key=asked.key).first()
    if row is not None and row.digest != asked.digest:
        raise Conflict(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request; take a new one for each.",
        )
    return row


def operations_of(row: IdempotencyKey) -> list[Operation]:
    """In their order; none where something was done at once."""
    found = Operation.objects.filter(uuid__in=row.operations).select_related("cluster")
    return list(found.order_by("pk"))


def note(operations: Iterable[Operation]) -> None:
    """Keep the request's key with what came of it; in the action's transaction, once. Raises
    Conflict, as `_write`."""
    _write(operations=[operation.uuid for operation in operations])


def note_done(status: int, made: str = "") -> None:
    """The same for an action that is done at once: its answer's status, and the object that it
    shows ("token:<uuid>"), if it shows one."""
    _write(status=status, made=made)


def _write(*, operations: Sequence[UUID] = (), status: int | None = None, made: str = "") -> None:
    """Raises Conflict where the key has a result by now: the first request's connection was cut
    while Postgres committed, so that its repetition found nothing yet."""
    asked = _asked.get()
    if asked is None:
        return
    values = [asked.caller, asked.key, asked.digest, list(operations), status, made]
    # Not get_or_create, which goes on behind an error: `in_one_go` nothing does.
    if not rows(NOTE, values, prepare=True):
        raise in_progress()


def forget_old_keys() -> None:
    """Those whose day is over, a piece at a time."""
    old = IdempotencyKey.objects.filter(created_at__lt=Now() - KEPT).values_list("pk", flat=True)
    while piece := list(old[:1000]):
        IdempotencyKey.objects.filter(pk__in=piece).delete()
