"""Lanes: how many heavy Proxmox tasks run at once on a storage, a node or a running source VM.

Proxmox serialises allocation on a storage cluster-wide and lets the rest time out after 10 s; so
they wait here, in order and visibly, rather than there. Limits are rows that operators edit.

    first look: in line ──▶ called by who leaves: through ──▶ leaves with the step's end

Who is called has its place already, so that nobody is called twice and nobody comes in vain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

from django.db import connection, transaction
from django.db.models import Count, F, Q

from operations import queue
from operations.models import Lane, LaneTicket, Operation


@dataclass(frozen=True)
class Place:
    """Where in a lane's line an operation stands."""

    lane: str
    limit: int
    position: int

    def __str__(self) -> str:
        return f"a place in lane {self.lane} (limit {self.limit}): position {self.position}"

    @property
    def check_s(self) -> float:
        """When to look again though nobody called: one who leaves may die before it calls the next.
        The further back the rarer: if a thousand looked each 10 s, they would keep the workers from
        those who are through."""
        return min(10.0 + self.position, 120.0)


def is_in_line(operation: Operation) -> bool:
    """Whether it asked for a place and was not called yet."""
    return operation.tickets.filter(is_through=False).exists()


def must_wait(operation: Operation, wanted: Iterable[tuple[str, int]]) -> bool:
    """Whether one of these lanes is full with others, and it was not called."""
    if operation.tickets.filter(is_through=True).exists():
        return False
    keys = [key for key, _ in wanted]
    others = Count("tickets", filter=~Q(tickets__operation=operation))
    lanes = Lane.objects.filter(cluster_id=operation.cluster_id, key__in=keys)
    return lanes.annotate(others=others).filter(others__gte=F("limit")).exists()


def admit(operation: Operation, wanted: Iterable[tuple[str, int]]) -> Place | None:
    """Ask for passage through all lanes of `wanted`, pairs of (key, default limit).

    Returns None when the operation is through all of them, else where it waits. It is through all
    or none, so nobody holds one lane while waiting for another.
    """
    limits = dict(wanted)
    through = operation.tickets.filter(is_through=True).values_list("lane__key", flat=True)
    if limits.keys() <= set(through):
        return None
    with transaction.atomic():
        _lock(operation.cluster_id)
        LaneTicket.objects.bulk_create(
            (LaneTicket(lane_id=lane, operation=operation) for lane in _lanes(operation, limits)),
            ignore_conflicts=True,
        )
        passed = _let_pass(operation.cluster_id)
        _wake(passed - {operation.pk})
        return None if operation.pk in passed else _place(operation)


def leave(operation: Operation) -> None:
    """Give back the operation's places, and call the next once that is committed."""
    left, _ = LaneTicket.objects.filter(operation=operation).delete()
    if left:
        # Not in this transaction: to hold rows while waiting for the lock could be a deadlock.
        transaction.on_commit(partial(call_next, operation.cluster_id), robust=True)


def call_next(cluster_id: int) -> None:
    """Let those in line pass for whom there is room now, and wake them."""
    with transaction.atomic():
        _lock(cluster_id)
        _wake(_let_pass(cluster_id))


def _lanes(operation: Operation, limits: dict[str, int]) -> list[int]:
    """The lanes' keys; one that nobody has used yet is made."""
    lanes = Lane.objects.filter(cluster_id=operation.cluster_id, key__in=limits).order_by("key")
    found = dict(lanes.values_list("key", "pk"))
    if len(found) < len(limits):
        new = [
            Lane(cluster_id=operation.cluster_id, key=key, limit=limit)
            for key, limit in limits.items()
            if key not in found
        ]
        Lane.objects.bulk_create(new, ignore_conflicts=True)
        found = dict(lanes.values_list("key", "pk"))
    return list(found.values())


# Of each lane the first in line, as many as there is room for; those for whom there is room in all
# the lanes where they stand are through. Who is behind them takes no room from who is before.
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
            ORDER BY id LIMIT greatest(room.free, 0)
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
    with connection.cursor() as cursor:
        cursor.execute(ADMISSION, [cluster_id])
        return {operation for (operation,) in cursor.fetchall()}


def _place(operation: Operation) -> Place:
    """In the first lane, by its name, that has no room for it."""
    is_through = Q(lane__tickets__is_through=True)
    is_before = Q(lane__tickets__is_through=False, lane__tickets__id__lt=F("id"))
    through = Count("lane__tickets", filter=is_through)
    before = Count("lane__tickets", filter=is_before)
    tickets = operation.tickets.filter(is_through=False).order_by("lane__key")
    tickets = tickets.annotate(through=through, before=before)
    places = [
        (Place(key, limit, before + 1), through + before >= limit)
        for key, limit, through, before in tickets.values_list(
            "lane__key", "lane__limit", "through", "before"
        )
    ]
    # An operator may have raised a limit in this moment: then any, since it is called at once.
    return next((place for place, is_full in places if is_full), places[0][0])


def _wake(called: set[int]) -> None:
    for operation in Operation.objects.filter(pk__in=called).order_by("pk"):
        queue.wake(operation)


def _lock(cluster_id: int) -> None:
    """Who passes is decided one at a time on a cluster."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"lanes:{cluster_id}"]
        )
