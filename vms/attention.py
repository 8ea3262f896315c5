"""VMs that a person should look at, as conditions on their rows."""

from __future__ import annotations

import datetime

from django.db.models import Q
from django.utils import timezone

# Locks that end by themselves, however long they last.
PATIENT_LOCKS = ("", "backup", "suspended")
STUCK_AFTER = datetime.timedelta(minutes=5)

IN_ERROR, MISSING, LOCKED = "error", "missing", "locked"


def conditions() -> dict[str, Q]:
    """Of living VMs. A lock counts as stuck when nothing about the VM has changed for a while and
    no task of ours is at work on it."""
    unchanged = Q(updated_at__lt=timezone.now() - STUCK_AFTER)
    return {
        IN_ERROR: Q(has_failed=True),
        MISSING: Q(missing_since__isnull=False),
        LOCKED: ~Q(lock__in=PATIENT_LOCKS) & Q(doing="", missing_since=None) & unchanged,
    }
