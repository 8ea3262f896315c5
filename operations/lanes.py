"""Lanes: how many heavy Proxmox tasks run at once on a storage, a node or a running source VM.

Proxmox serialises allocation on a storage cluster-wide and lets the rest time out after 10 s; so
they wait here, in order and visibly, rather than there. Limits are rows that operators edit.

    accepted: in line ──▶ called by who leaves: through ──▶ leaves with the end of the step

Who is called has its place already, so that nobody is called twice and nobody comes in vain; and
who waits takes no turn until then: a thousand in line cost the workers nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from django.db import transaction

from accounts.sql import after_commit, ask, execute, lock, rows
from operations import queue
from operations.models import Lane, Operation


@dataclass(frozen=True)
class Place:
    """Where in a lane's line an operation stands."""

    lane: str
    limit: int
    # From 1: so many have to leave until there is room for it.
    position: int

    def __str__(self) -> str:
        return f"a place in lane {self.lane} (limit {self.limit}): position {self.position}"

    @property
    def check_s(self) -> float:
        """When to look again though nobody called: one who leaves may die before it calls the next.
        The further back the rarer: if a thousand looked each 10 s, they would keep the workers from
        those who are through."""
        return min(10.0 + self.position, 120.0)


# Of each lane: how many are through or wait.
_FILLED = """
    SELECT lane.key, lane."limit", count(ticket.id)
    FROM operations_lane AS lane
    LEFT JOIN operations_laneticket AS ticket ON ticket.lane_id = lane.id
    WHERE lane.cluster_id = %s AND {} = ANY(%s)
    GROUP BY lane.id
"""
FILLED = _FILLED.format("lane.key")
FILLED_OF_KIND = _FILLED.format("split_part(lane.key, ':', 1)")
# Of each lane its key, its limit and how many are there.
Filled = list[tuple[Any, ...]]


def ask_filled(cluster_id: int, *kinds: str) -> Callable[[], Filled]:
    """How full all lanes of these kinds are (`node`, `storage`), as `accounts.sql.ask`."""
    return ask(FILLED_OF_KIND, [cluster_id, list(kinds)], prepare=True)


def ends_of_line(
    cluster_id: int, wanted: Iterable[Mapping[str, int]], known: Filled | None = None
) -> list[Place | None]:
    """Where each of those who come now, one after the other, would have to wait; None where there
    is room. Of each its lanes, with their default limits; `known` was read already."""
    wanted = list(wanted)
    limits = {key: limit for lanes in wanted for key, limit in lanes.items()}
    filled = {lane[0]: lane for lane in known or ()}
    if unknown := [key for key in limits if key not in filled]:
        found = rows(FILLED, [cluster_id, unknown], prepare=True)
        if len(found) < len(unknown):
            _make_lanes(cluster_id, limits)
        filled |= {key: (key, limits[key], 0) for key in unknown}
        filled |= {lane[0]: lane for lane in found}
    places = []
    for lanes in wanted:
        places.append(_full(filled[key] for key in sorted(lanes)))
        for key in lanes:
            _, limit, there = filled[key]
            filled[key] = (key, limit, there + 1)
    return places


def stand(operations: Sequence[Operation], wanted: Iterable[Iterable[str]]) -> None:
    """Take places, each in its lanes, in the caller's transaction; who has to wait there is called.

    No lock is held, so who leaves before the commit does not see them: then they look themselves.
    """
    tickets = [(one.pk, key) for one, keys in zip(operations, wanted, strict=True) for key in keys]
    if tickets:
        _take_tickets(operations[0].cluster_id, tickets)
    if waiting := [one for one in operations if one.waiting_for]:
        after_commit(_come_if_there_is_room, waiting)


OWN = """
    SELECT lane.key, ticket.is_through
    FROM operations_laneticket AS ticket JOIN operations_lane AS lane ON lane.id = ticket.lane_id
    WHERE ticket.operation_id = %s
"""


def _tickets(operation: Operation) -> dict[str, bool]:
    """The lanes where it stands, and whether it is through."""
    return dict(rows(OWN, [operation.pk], prepare=True))


def is_in_line(operation: Operation) -> bool:
    """Whether it asked for a place and was not called yet."""
    return not all(_tickets(operation).values())


def must_wait(operation: Operation, wanted: Iterable[tuple[str, int]]) -> bool:
    """Whether one of these lanes is full with others, and it was not called."""
    own = _tickets(operation)
    if any(own.values()):
        return False
    filled = rows(FILLED, [operation.cluster_id, [key for key, _ in wanted]], prepare=True)
    return any(there - (key in own) >= limit for key, limit, there in filled)


def admit(operation: Operation, wanted: Iterable[tuple[str, int]]) -> Place | None:
    """Ask for passage through all lanes of `wanted`, pairs of (key, default limit).

    Returns None when the operation is through all of them, else where it waits. It is through all
    or none, so nobody holds one lane while waiting for another.
    """
    limits = dict(wanted)
    own = _tickets(operation)
    if all(own.get(key, False) for key in limits):
        return None
    with transaction.atomic():
        _lock(operation.cluster_id)
        _make_lanes(operation.cluster_id, limits)
        _take_tickets(operation.cluster_id, [(operation.pk, key) for key in limits])
        passed = _let_pass(operation.cluster_id)
        _call_all(passed - {operation.pk})
        # Others may have let it pass since it looked.
        return _place(operation)


LEAVE = "DELETE FROM operations_laneticket WHERE operation_id = %s"


def leave(operation: Operation) -> None:
    """Give back the operation's places, and call the next once that is committed."""
    if execute(LEAVE, [operation.pk], prepare=True):
        # Not in this transaction: to hold rows while waiting for the lock could be a deadlock.
        after_commit(call_next, operation.cluster_id)


def call_next(cluster_id: int) -> None:
    """Let those in line pass for whom there is room now, and wake them."""
    with transaction.atomic():
        _lock(cluster_id)
        _call_all(_let_pass(cluster_id))


def _make_lanes(cluster_id: int, limits: Mapping[str, int]) -> None:
    """Those that nobody has used yet."""
    lanes = Lane.objects.filter(cluster_id=cluster_id, key__in=limits)
    missing = sorted(limits.keys() - set(lanes.values_list("key", flat=True)))
    Lane.objects.bulk_create(
        (Lane(cluster_id=cluster_id, key=key, limit=limits[key]) for key in missing),
        ignore_conflicts=True,
    )


TICKETS = """
    INSERT INTO operations_laneticket (lane_id, operation_id, is_through)
    SELECT lane.id, wanted.operation, false
    FROM unnest(%s::bigint[], %s::text[]) AS wanted (operation, key)
    JOIN operations_lane AS lane ON lane.cluster_id = %s AND lane.key = wanted.key
    ON CONFLICT DO NOTHING
"""


def _take_tickets(cluster_id: int, tickets: Iterable[tuple[int, str]]) -> None:
    """Pairs of an operation and a lane's key."""
    operations, keys = zip(*tickets, strict=True)
    ask(TICKETS, [list(operations), list(keys), cluster_id], prepare=True)


# Of each lane the first in line, as many as there is room for; those for whom there is room in all
# the lanes where they stand are through. Who is behind them takes no room from who is before. The
# line is that of the operations, the same in all lanes: two could else wait for each other.
ADMISSION = """
    WITH room AS (
        SELECT lane.id, lane."limit" - (
            SELECT count(*) FROM operations_laneticket WHERE lane_id = lane.id AND is_through
        ) AS free
        FROM operations_lane AS lane
        WHERE lane.cluster_id = %s AND EXISTS (
            SELECT FROM operations_laneticket WHERE lane_id = lane.id AND NOT is_through
        )
    ), foremost AS (
        SELECT ticket.operation_id, count(*) AS lanes
        FROM room CROSS JOIN LATERAL (
            SELECT operation_id FROM operations_laneticket
            WHERE lane_id = room.id AND NOT is_through
            ORDER BY operation_id LIMIT greatest(room.free, 0)
        ) AS ticket
        GROUP BY ticket.operation_id
    )
    UPDATE operations_laneticket SET is_through = true
    WHERE NOT is_through AND operation_id IN (
        SELECT operation_id FROM foremost WHERE lanes = (
            SELECT count(*) FROM operations_laneticket AS its
            WHERE its.operation_id = foremost.operation_id AND NOT its.is_through
        )
    )
    RETURNING operation_id
"""


def _let_pass(cluster_id: int) -> set[int]:
    return {operation for (operation,) in rows(ADMISSION, [cluster_id])}


# Of each lane where it waits: how many are through or wait before it.
BEFORE = """
    SELECT lane.key, lane."limit", count(other.id)
    FROM operations_laneticket AS mine JOIN operations_lane AS lane ON lane.id = mine.lane_id
    LEFT JOIN operations_laneticket AS other
        ON other.lane_id = lane.id
        AND (other.is_through OR other.operation_id < mine.operation_id)
    WHERE mine.operation_id = %s AND NOT mine.is_through
    GROUP BY lane.id ORDER BY lane.key
"""


def _place(operation: Operation) -> Place | None:
    """Where it waits, None when it is through."""
    found = rows(BEFORE, [operation.pk])
    # An operator may have raised a limit in this moment: then it is called at once.
    return _full(found) or (Place(found[0][0], found[0][1], 1) if found else None)


# Those that wait, and have not as many before them in any of their lanes as it takes. Most have
# hundreds, of which no more are counted.
ROOM = """
    SELECT mine.operation_id
    FROM operations_laneticket AS mine JOIN operations_lane AS lane ON lane.id = mine.lane_id
    WHERE mine.operation_id = ANY(%s) AND NOT mine.is_through
    GROUP BY mine.operation_id
    HAVING bool_and(lane."limit" > (
        SELECT count(*) FROM (
            SELECT FROM operations_laneticket AS other
            WHERE other.lane_id = lane.id
                AND (other.is_through OR other.operation_id < mine.operation_id)
            LIMIT lane."limit"
        ) AS before
    ))
"""


def _come_if_there_is_room(waiting: Sequence[Operation]) -> None:
    there_is = {pk for (pk,) in rows(ROOM, [[one.pk for one in waiting]], prepare=True)}
    for operation in waiting:
        if operation.pk in there_is:
            queue.wake(operation, waiting_for="")


def _full(lanes: Iterable[tuple[Any, ...]]) -> Place | None:
    """Where it has to wait longest, of lanes as (key, limit, how many are before it); None where
    all have room."""
    places = (Place(key, limit, there - limit + 1) for key, limit, there in lanes)
    longest = max(places, key=attrgetter("position"), default=None)
    return longest if longest and longest.position > 0 else None


def call(operation: Operation) -> None:
    """It is through. Who holds a place goes before all that does not, even if it has not begun."""
    queue.wake(operation, priority=queue.BEGUN, waiting_for="")


def _call_all(called: set[int]) -> None:
    for pk in sorted(called):
        if operation := queue.HINTED.first(pk=pk):
            call(operation)


def _lock(cluster_id: int) -> None:
    """Who passes is decided one at a time on a cluster."""
    lock(f"lanes:{cluster_id}")
