"""Taking claims: the database lets one exclusive holder in, or shared ones, never both."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from accounts.sql import ask, rows
from operations.models import EXCLUSIVE, Operation
from operations.refusals import Conflict

# One after the other, as they are given. Who shares an object waits only for who wants it alone.
LOCK = """
    SELECT CASE
        WHEN mode = 'exclusive' THEN pg_advisory_xact_lock(hashtextextended('claim:' || name, 0))
        ELSE pg_advisory_xact_lock_shared(hashtextextended('claim:' || name, 0))
    END
    FROM unnest(%(names)s::text[], %(modes)s::text[]) AS wanted (name, mode)
"""
# All of them, or the operation that holds one. It looks when the locks are held, so not before; and
# who shares a template looks for who has it alone, not through the thousands that share it too.
CLAIM = """
    WITH wanted AS (
        SELECT name, mode, operation
        FROM unnest(%(names)s::text[], %(modes)s::text[], %(operations)s::bigint[])
            AS wanted (name, mode, operation)
    ), against AS (
        SELECT claim.object, claim.id, claim.operation_id, wanted.operation
        FROM wanted JOIN operations_claim AS claim ON claim.object = wanted.name
        WHERE wanted.mode = 'exclusive'
        UNION ALL
        SELECT claim.object, claim.id, claim.operation_id, wanted.operation
        FROM wanted JOIN operations_claim AS claim
            ON claim.object = wanted.name AND claim.mode = 'exclusive'
        WHERE wanted.mode = 'shared'
    ), holder AS (
        SELECT operation_id FROM against WHERE operation_id <> operation
        ORDER BY object, id LIMIT 1
    ), taken AS (
        INSERT INTO operations_claim (object, mode, operation_id)
        SELECT name, mode, operation FROM wanted WHERE NOT EXISTS (SELECT FROM holder)
    )
    SELECT operation_id FROM holder
"""


class Claimed(Conflict):
    """Somebody works on it; `holder` is the operation that does."""

    def __init__(self, holder: Operation) -> None:
        super().__init__(
            "claimed",
            f"Task {holder.uuid} ({holder}) is still {holder.state}: wait for it, or cancel it "
            "where that is possible.",
        )
        self.holder = holder


def take_claims(operations: Iterable[Operation]) -> None:
    """Claim for each what it `wants`, in the caller's transaction: all of it or none.

    Raises Claimed, naming the holder. Objects are locked in one order, so two callers cannot
    wait for each other.
    """
    wanted = sorted(
        ((name, mode, one) for one in operations for name, mode in one.wants),
        key=lambda claim: (claim[0], claim[2].pk),
    )
    for before, after in pairwise(wanted):
        if before[0] == after[0] and EXCLUSIVE in {before[1], after[1]}:
            raise Claimed(before[2])
    claims = {
        "names": [name for name, _, _ in wanted],
        "modes": [mode for _, mode, _ in wanted],
        "operations": [one.pk for _, _, one in wanted],
    }
    # Who wants the same shares it.
    modes = {name: mode for name, mode, _ in wanted}
    ask(LOCK, {"names": [*modes], "modes": [*modes.values()]}, prepare=True)
    if holders := rows(CLAIM, claims, prepare=True):
        raise Claimed(Operation.objects.get(pk=holders[0][0]))
