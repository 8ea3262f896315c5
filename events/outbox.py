"""Numbering events after their commit, making their deliveries, and reading on from a number.

Ids are given when a row is inserted, so of two transactions the one that began first may be seen
last, with the lower id: a reader of `id > last` would miss it. So events are told in another order:
by a number that is given to events whose commit can be seen, under a lock (one numbering at a time
in the whole installation). The lock is let go only when the numbering itself has been committed, so
numbers become visible in their order, and `seq > last` misses nothing and repeats nothing. A
numbering that fails leaves a hole in the numbers, never an event without one for long.

Whoever reads numbers first: web processes with listeners when a word says that there is something,
and `events.tick` each second. Deliveries are made in the same transaction, so that there is exactly
one for each event and webhook.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.db.models import Max
from django.db.models.functions import Now

from accounts.sql import lock, rows
from events.bodies import event_frame
from events.kinds import PING
from events.models import Delivery, Event, Webhook
from events.wanted import Wanted, is_of_type

BATCH = 1000
# Materialized: evaluated once and in this order, however the planner joins it.
_NUMBER = """
    WITH waiting AS MATERIALIZED (
        SELECT id FROM events_event WHERE seq IS NULL ORDER BY id LIMIT %s
    ), numbered AS MATERIALIZED (
        SELECT id, nextval('events_event_numbers') AS seq FROM waiting
    )
    UPDATE events_event AS event SET seq = numbered.seq
    FROM numbered WHERE event.id = numbered.id
    RETURNING event.id
"""


def publish() -> int:
    """Number what is committed and has no number. Returns how many events that were."""
    total = 0
    # Without the lock: what others have numbered is visible by now, and usually that is all.
    while Event.objects.filter(seq=None).exists():
        numbered = _publish_batch()
        total += numbered
        if numbered < BATCH:
            break
    return total


@transaction.atomic
def _publish_batch() -> int:
    lock("events.numbering")
    ids = [pk for (pk,) in rows(_NUMBER, [BATCH])]
    make_deliveries(ids)
    return len(ids)


def make_deliveries(events: Iterable[int]) -> None:
    """One for each event and each webhook that wants it."""
    # Held, so that none is deleted under its new deliveries.
    webhooks = list(Webhook.objects.filter(is_enabled=True).select_for_update(no_key=True))
    if not webhooks:
        return
    patience = datetime.timedelta(seconds=settings.WEBHOOKS["give_up_s"])
    found = Event.objects.filter(pk__in=list(events)).order_by("seq")
    Delivery.objects.bulk_create(
        [
            Delivery(event=event, webhook=webhook, next_at=Now(), give_up_at=Now() + patience)
            for event in found
            for webhook in webhooks
            if wants(webhook, event)
        ],
        batch_size=BATCH,
    )


def wants(webhook: Webhook, event: Event) -> bool:
    if event.kind == PING:
        return event.subject == webhook.uuid
    if webhook.project_id is not None and webhook.project_id != event.project_id:
        return False
    return not webhook.types or is_of_type(event.kind, webhook.types)


@dataclass(frozen=True)
class Page:
    """Events in their order, and the number up to which they are all that there is."""

    events: list[Event]
    frames: list[bytes]
    position: int


def position() -> int:
    """The last number given."""
    publish()
    last: int | None = Event.objects.aggregate(last=Max("seq"))["last"]
    return last or 0


def read_on(after: int, *, limit: int = BATCH) -> Page:
    """What happened after this number, new events numbered first."""
    publish()
    return _page(Wanted(), after, None, limit)


def read_back(wanted: Wanted, after: int, until: int, *, limit: int = BATCH) -> Page:
    """What somebody missed who has heard up to `after`, up to `until`; a part of it, if it is much:
    the page's position says how far it goes."""
    return _page(wanted, after, until, limit)


def _page(wanted: Wanted, after: int, until: int | None, limit: int) -> Page:
    queryset = Event.objects.filter(wanted.as_q(), seq__gt=after).select_related("project")
    if until is not None:
        queryset = queryset.filter(seq__lte=until)
    events = list(queryset.order_by("seq")[:limit])
    is_all = len(events) < limit
    last = int(events[-1].seq or after) if events else after
    return Page(
        events=events,
        frames=[event_frame(event) for event in events],
        position=until if is_all and until is not None else last,
    )


def first_kept() -> int:
    """The number of the oldest event that is still there; 0 where there is none."""
    first = Event.objects.exclude(seq=None).order_by("seq").values_list("seq", flat=True).first()
    return first or 0
