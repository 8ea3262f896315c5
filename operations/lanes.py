"""Lanes: how many heavy Proxmox tasks run at once on a storage, a node or a running source VM.

Proxmox serialises allocation on a storage cluster-wide and lets the rest time out after 10 s; so
they wait here, in order and visibly, rather than there. Limits are rows that operators edit.
"""

from __future__ import annotations

from collections.abc import Iterable

from django.db import connection, transaction
from django.db.models import Count, Q

from operations import queue
from operations.models import UNFINISHED, Lane, LaneTicket, Operation


def admit(operation: Operation, wanted: Iterable[tuple[str, int]]) -> str:
    """Ask for passage through all lanes of `wanted`, pairs of (key, default limit).

    Returns "" when the operation is through all of them, else what it waits for and at which
    position. It is through all or none, so nobody holds one lane while waiting for another.
    """
    pairs = sorted(wanted)
    if not pairs:
        return ""
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
                return (
                    f"a place in lane {lane.key} (limit {lane.limit}): "
                    f"position {counts['before'] + 1}"
                )
        LaneTicket.objects.filter(lane__in=lanes, operation=operation).update(is_through=True)
    return ""


def leave(operation: Operation) -> None:
    """Give back the operation's places and wake those who may now pass; in a transaction."""
    lanes = list(Lane.objects.filter(tickets__operation=operation).order_by("key"))
    if not lanes:
        return
    LaneTicket.objects.filter(operation=operation).delete()
    for lane in lanes:
        through = lane.tickets.filter(is_through=True).count()
        waiting = lane.tickets.filter(is_through=False).order_by("id")
        for ticket in waiting.select_related("operation")[: max(0, lane.limit - through)]:
            queue.wake(ticket.operation)


def _locked(cluster_id: int, key: str, limit: int) -> Lane:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"lane:{cluster_id}:{key}"]
        )
    lane, _ = Lane.objects.get_or_create(cluster_id=cluster_id, key=key, defaults={"limit": limit})
    return lane
