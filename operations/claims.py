"""Taking claims: the database lets one exclusive holder in, or shared ones, never both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import connection

from operations.models import EXCLUSIVE, Claim, Operation
from operations.refusals import Conflict

# One after the other, as they are given. Who shares an object waits only for who wants it alone.
LOCK = """
    SELECT CASE
        WHEN is_alone THEN pg_advisory_xact_lock(hashtextextended('claim:' || name, 0))
        ELSE pg_advisory_xact_lock_shared(hashtextextended('claim:' || name, 0))
    END
    FROM unnest(%(names)s::text[], %(are_alone)s::boolean[]) AS wanted (name, is_alone)
"""
HOLDER = """
    SELECT claim.operation_id
    FROM unnest(%(names)s::text[], %(are_alone)s::boolean[]) AS wanted (name, is_alone)
    JOIN operations_claim AS claim ON claim.object = wanted.name
    WHERE claim.operation_id <> %(operation)s AND (wanted.is_alone OR claim.mode = 'exclusive')
    ORDER BY claim.object, claim.id LIMIT 1
"""


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
    modes = dict(sorted(wants))
    wanted: dict[str, Any] = {
        "operation": operation.pk,
        "names": list(modes),
        "are_alone": [mode == EXCLUSIVE for mode in modes.values()],
    }
    with connection.cursor() as cursor:
        cursor.execute(LOCK, wanted)
        cursor.execute(HOLDER, wanted)
        holder = cursor.fetchone()
    if holder is not None:
        raise Claimed(Operation.objects.get(pk=holder[0]))
    Claim.objects.bulk_create(
        Claim(object=name, mode=mode, operation=operation) for name, mode in modes.items()
    )
