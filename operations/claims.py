"""Taking claims: the database lets one exclusive holder in, or shared ones, never both."""

from __future__ import annotations

from collections.abc import Iterable

from accounts.sql import rows
from operations.models import Operation
from operations.refusals import Conflict

# One after the other, as they are given. Who shares an object waits only for who wants it alone.
LOCK = """
    SELECT CASE
        WHEN mode = 'exclusive' THEN pg_advisory_xact_lock(hashtextextended('claim:' || name, 0))
        ELSE pg_advisory_xact_lock_shared(hashtextextended('claim:' || name, 0))
    END
    FROM unnest(%(names)s::text[], %(modes)s::text[]) AS wanted (name, mode)
"""
# All of them, or the operation that holds one. It looks when the locks are held, so not before.
CLAIM = """
    WITH wanted AS (
        SELECT name, mode FROM unnest(%(names)s::text[], %(modes)s::text[]) AS wanted (name, mode)
    ), holder AS (
        SELECT claim.operation_id
        FROM wanted JOIN operations_claim AS claim ON claim.object = wanted.name
        WHERE claim.operation_id <> %(operation)s AND 'exclusive' IN (wanted.mode, claim.mode)
        ORDER BY claim.object, claim.id LIMIT 1
    ), taken AS (
        INSERT INTO operations_claim (object, mode, operation_id)
        SELECT name, mode, %(operation)s FROM wanted WHERE NOT EXISTS (SELECT FROM holder)
    )
    SELECT operation_id FROM holder
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
    wanted = {"operation": operation.pk, "names": [*modes], "modes": [*modes.values()]}
    rows(LOCK, wanted)
    if holders := rows(CLAIM, wanted):
        raise Claimed(Operation.objects.get(pk=holders[0][0]))
