"""Lanes: how many heavy Proxmox tasks run at once on a storage, a node or a running source VM.

Proxmox serialises allocation on a storage cluster-wide and lets the rest time out after 10 s; so
they wait here, in order and visibly, rather than there. Limits are rows that operators edit.

    first look: in line ──▶ called by who leaves: through ──▶ leaves with the step's end

Who is called has its place already, so that nobody is called twice and nobody comes in vain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        for key, limit in sorted(limits.items()):
            lane, _ = Lane.objects.get_or_create(
                cluster_id=operation.cluster_id, key=key, defaults={"limit": limit}
            )
            LaneTicket.objects.get_or_create(lane=lane, operation=operation)
        return _pass(operation.pk)


def leave(operation: Operation) -> None:
    """Give back the operation's places, and call the next once that is committed."""
    lanes = list(operation.tickets.values_list("lane_id", flat=True))
    if not lanes:
        return
    LaneTicket.objects.filter(operation=operation).delete()
    # Not in this transaction: to hold rows while waiting for the lock could be a deadlock.
    transaction.on_commit(partial(call_next, operation.cluster_id, lanes), robust=True)


def call_next(cluster_id: int, lanes: Sequence[int]) -> None:
    """Let those in line pass for whom there is room now, and wake them."""
    with transaction.atomic():
        _lock(cluster_id)
        called = []
        for lane in Lane.objects.filter(pk__in=lanes):
            through = lane.tickets.filter(is_through=True).count()
            in_line = lane.tickets.filter(is_through=False).order_by("id")
            for ticket in in_line[: max(0, lane.limit - through)]:
                if _pass(ticket.operation_id) is None:
                    called.append(ticket.operation_id)
        for operation in Operation.objects.filter(pk__in=called).order_by("pk"):
            queue.wake(operation)


def _pass(operation: int) -> Place | None:
    """Let it through, unless a lane is full with those who are through or stand before it."""
    tickets = LaneTicket.objects.filter(operation=operation, is_through=False)
    for ticket in tickets.select_related("lane").order_by("lane__key"):
        lane = ticket.lane
        counts = lane.tickets.aggregate(
            through=Count("id", filter=Q(is_through=True)),
            before=Count("id", filter=Q(is_through=False, id__lt=ticket.pk)),
        )
        if counts["through"] + counts["before"] >= lane.limit:
            return Place(lane.key, lane.limit, counts["before"] + 1)
    tickets.update(is_through=True)
    return None


def _lock(cluster_id: int) -> None:
    """Who passes is decided one at a time on a cluster."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"lanes:{cluster_id}"]
        )
