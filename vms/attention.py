"""VMs that a person should look at, as conditions on their rows."""

from __future__ import annotations

import datetime

from django.db.models import F, Q
from django.utils import timezone

from vms.models import VirtualMachine

# Locks that end by themselves, however long they last.
PATIENT_LOCKS = ("", "backup", "suspended")
STUCK_AFTER = datetime.timedelta(minutes=5)

IN_ERROR, MISSING, LOCKED, ORPHAN, UNMARKED = "error", "missing", "locked", "orphan", "unmarked"


def conditions() -> dict[str, Q]:
    """Of living VMs. A lock counts as stuck when nothing about the VM has changed for a while and
    no task of ours is at work on it. `missing`, `orphan` and `unmarked` are the rules R1 to R3
    (inventory.reconcile)."""
    unchanged = Q(updated_at__lt=timezone.now() - STUCK_AFTER)
    return {
        IN_ERROR: Q(has_failed=True, doing=""),
        MISSING: Q(missing_since__isnull=False),
        LOCKED: ~Q(lock__in=PATIENT_LOCKS) & Q(doing="", missing_since=None) & unchanged,
        ORPHAN: Q(marked_as__isnull=False) & ~Q(marked_as=F("uuid")),
        UNMARKED: Q(
            is_ours=True,
            marked_as=None,
            details_at__isnull=False,
            missing_since=None,
            has_failed=False,
            doing="",
        ),
    }


def is_orphan(vm: VirtualMachine) -> bool:
    return vm.marked_as not in {None, vm.uuid}


def is_unmarked(vm: VirtualMachine) -> bool:
    seen = vm.details_at is not None and vm.missing_since is None
    return vm.is_ours and vm.marked_as is None and seen and not vm.has_failed and not vm.doing
