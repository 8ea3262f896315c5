"""Lanes: how many heavy Proxmox tasks run at once on a storage, a node or a running source VM.

Proxmox serialises allocation on a storage cluster-wide and lets the rest time out after 10 s; so
they wait here, in order and visibly, rather than there. Limits are rows that operators edit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Count, Q

from operations import queue
from operations.models import UNFINISHED, Lane, LaneTicket, Operation


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
        """When to look again though nobody called. Who leaves calls the next, in its own
        transaction; so this is for a limit that was raised, and the further back the rarer: if a
        thousand looked each 10 s, they would keep the workers from those who are through."""
        return min(10.0 + self.position, 120.0)


def admit(operation: Operation, wanted: Iterable[tuple[str, int]]) -> Place | None:
    """Ask for passage through all lanes of `wanted`, pairs of (key, default limit).

    Returns None when the operation is through all of them, else where it waits. It is through all
    or none, so nobody holds one lane while waiting for another.
    """
    pairs = sorted(wanted)
    if not pairs:
        return None
    with transaction.atomic():
        lanes = [_locked(operation.cluster_id, key, limit) for key, limit in pairs]
        for lane in lanes:
            LaneTicket.objects.get_or_create(lane=lane, operation=operation)
        for lane in lanes:
            tickets = lane.tickets.filter(operation__state__in=UNFINISHED)
            mine = tickets.get(operation=operation)
            if mine.is_through:
                continue
            counts = tickets.aggregate(
                through=Count("id", filter=Q(is_through=True)),
                before=Count("id", filter=Q(is_through=False, id__lt=mine.pk)),
            )
            if counts["through"] + counts["before"] >= lane.limit:
                return Place(lane.key, lane.limit, counts["before"] + 1)
        LaneTicket.objects.filter(lane__in=lanes, operation=operation).update(is_through=True)
    return None


def leave(operation: Operation) -> None:
    """Give back the operation's places and wake those who may now pass; in a transaction."""
    lanes = list(Lane.objects.filter(tickets__operation=operation).order_by("key"))
    if not lanes:
        return
    LaneTicket.objects.filter(operation=operation).delete()
    call_next(lanes)


def call_next(lanes: Iterable[Lane]) -> None:
    """Wake those in line who may now pass; in a transaction."""
    called: set[int] = set()
    for lane in lanes:
        through = lane.tickets.filter(is_through=True).count()
        waiting = lane.tickets.filter(is_through=False).order_by("id")
        called.update(
            waiting.values_list("operation_id", flat=True)[: max(0, lane.limit - through)]
        )
    # Two who leave at once call the same ones: each locks them in one order, or they would wait
    # for one another.
    held = Operation.objects.select_for_update(no_key=True).filter(pk__in=called)
    for next_one in held.order_by("pk"):
        queue.wake(next_one)


def _locked(cluster_id: int, key: str, limit: int) -> Lane:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"lane:{cluster_id}:{key}"]
        )
    lane, _ = Lane.objects.get_or_create(cluster_id=cluster_id, key=key, defaults={"limit": limit})
    return lane
