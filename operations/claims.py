"""Taking claims: the database lets one exclusive holder in, or shared ones, never both."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection

from operations.models import EXCLUSIVE, Claim, Operation
from operations.refusals import Conflict


class Claimed(Conflict):
    """Somebody works on it; `holder` is the operation that does."""

    def __init__(self, holder: Operation) -> None:
        super().__init__(
            "claimed",
            f"Task {holder.uuid} ({holder}) is still {holder.state}; wait for it or cancel it.",
        )
        self.holder = holder


def take_claims(operation: Operation, wants: Iterable[tuple[str, str]]) -> None:
    """Claim all of `wants`, pairs of (object, mode), in the caller's transaction.

    Raises Claimed, naming the holder. Objects are locked in one order, so two callers cannot
    wait for each other.
    """
    for name, mode in sorted(wants):
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"claim:{name}"]
            )
        held = Claim.objects.filter(object=name).exclude(operation=operation)
        if mode != EXCLUSIVE:
            held = held.filter(mode=EXCLUSIVE)
        holder = held.select_related("operation").first()
        if holder is not None:
            raise Claimed(holder.operation)
        Claim.objects.create(object=name, mode=mode, operation=operation)
