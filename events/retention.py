"""Forgetting what is old, a piece at a time, so that nobody waits for a long deletion."""

from __future__ import annotations

import datetime

import structlog
from django.conf import settings
from django.db.models.functions import Now

from events.models import Delivery, Event

log = structlog.get_logger(__name__)

PIECE = 1000


def forget_old_events() -> int:
    """Events older than IZVOR_EVENTS_KEEP_DAYS, and their deliveries. Returns how many events."""
    oldest = Now() - datetime.timedelta(days=settings.EVENTS["keep_days"])
    total = 0
    while True:
        # By their ids: the oldest come first there, so nothing is searched for.
        old = Event.objects.filter(at__lt=oldest).order_by("pk").values_list("pk", flat=True)
        piece = list(old[:PIECE])
        Delivery.objects.filter(event__in=piece).delete()
        total += Event.objects.filter(pk__in=piece).delete()[0]
        if len(piece) < PIECE:
            break
    if total:
        log.info("old_events_forgotten", count=total)
    return total
