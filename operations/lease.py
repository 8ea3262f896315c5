"""Leases: one worker at a time carries an operation, and loses it by silence.

Taken and renewed in database time, so that workers' clocks do not matter. Every write of the holder
carries its token; whoever lost the lease learns it by changing no row.
"""

from __future__ import annotations

import datetime
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.db.models.functions import Now

from accounts.prepared import Prepared, Slot, Update
from accounts.sql import execute
from operations.models import UNFINISHED, Operation

log = structlog.get_logger(__name__)

TAKE = """
    UPDATE operations_operation
    SET lease_token = %(token)s,
        lease_until = statement_timestamp() + make_interval(secs => %(for_s)s)
    WHERE id = %(pk)s AND state = ANY(%(unfinished)s) AND due_at <= statement_timestamp()
        AND (lease_until IS NULL OR lease_until < statement_timestamp())
"""
HELD: Prepared[Any] = Prepared(
    lambda: (
        Operation.objects.filter(pk=Slot("pk"), lease_token=Slot("token"))
        .select_related("cluster")
        .annotate(db_now=Now())
        .order_by()
    )
)
UPDATE = Update(Operation, "id = %(pk)s AND lease_token = %(token)s")


class LeaseLost(Exception):
    """Another worker carries this operation now; whatever we know about it may be old."""


class Lease:
    """The right to write to one operation."""

    def __init__(self, operation: Operation, token: uuid.UUID, now: datetime.datetime) -> None:
        self.operation = operation
        self.token = token
        self._taken_now = now
        self._taken_monotonic = time.monotonic()

    @classmethod
    def take(cls, pk: int) -> Lease | None:
        """The lease of a due, unfinished operation that nobody holds; None otherwise."""
        token = uuid.uuid4()
        asked = {"pk": pk, "token": token, "for_s": settings.ENGINE["lease_s"]}
        if not execute(TAKE, {**asked, "unfinished": list(UNFINISHED)}, prepare=True):
            return None
        held = HELD.first(pk=pk, token=token)
        return cls(held, token, held.db_now) if held else None

    def now(self) -> datetime.datetime:
        """The database's time, without asking it again."""
        elapsed = time.monotonic() - self._taken_monotonic
        return self._taken_now + datetime.timedelta(seconds=elapsed)

    def write(self, **values: Any) -> None:
        """Change the operation's row, if the lease is still ours. Raises LeaseLost."""
        if not UPDATE(values, pk=self.operation.pk, token=self.token):
            raise LeaseLost(f"the lease of operation {self.operation.uuid} was lost")
        for name, value in values.items():
            setattr(self.operation, name, value)

    def is_cancel_requested(self) -> bool:
        """By now, not when the lease was taken; nobody can until this transaction ends."""
        row = Operation.objects.select_for_update().values_list("cancel_requested_at", "cancel_by")
        operation = self.operation
        operation.cancel_requested_at, operation.cancel_by = row.get(pk=operation.pk)
        return operation.cancel_requested_at is not None

    def release(self, **values: Any) -> None:
        """The last write of a turn: change the row and let the next worker in.

        A turn that gets here has not crashed, unless it says so.
        """
        self.write(**{"crashed_since": None, **values}, lease_token=None, lease_until=None)


class Heartbeat:
    """One thread a process that renews the leases in use, for as long as there are any."""

    def __init__(self) -> None:
        self._leases: dict[uuid.UUID, int] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    @contextmanager
    def keeping(self, lease: Lease) -> Iterator[None]:
        with self._changed:
            self._leases[lease.token] = lease.operation.pk
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._changed:
                del self._leases[lease.token]

    def _run(self) -> None:
        while True:
            with self._changed:
                # Nothing else notifies: the wait is the rhythm, and ends with the process.
                self._changed.wait(settings.ENGINE["heartbeat_s"])
                if not self._leases:
                    self._thread = None
                    return
                tokens = list(self._leases)
            self._renew(tokens)

    def _renew(self, tokens: list[uuid.UUID]) -> None:
        seconds = datetime.timedelta(seconds=settings.ENGINE["lease_s"])
        try:
            with transaction.atomic():
                # A row that its own turn is writing has its turn's time: to wait for it while we
                # hold others could be a deadlock, since a turn's end calls other operations.
                free = Operation.objects.select_for_update(skip_locked=True, no_key=True).filter(
                    lease_token__in=tokens, lease_until__gte=Now()
                )
                keys = list(free.values_list("pk", flat=True))
                Operation.objects.filter(pk__in=keys).update(lease_until=Now() + seconds)
        except DatabaseError as error:
            # The next beat tries again; if it is too late by then, the writes will say so.
            log.warning("leases_not_renewed", error=str(error))
        finally:
            connection.close()


heartbeat = Heartbeat()
