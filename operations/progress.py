"""How far Proxmox tasks are that copy disks: their logs say so, once in a while.

A full clone takes minutes. Without this a task would stand at what the steps before it came to.
"""

from __future__ import annotations

import datetime
import random
import re
import time

from django.db.models.functions import Now

from operations.models import RUNNING, Operation
from operations.plans import UnknownHere, plan_for
from proxmox import Client, ProxmoxError, Unreachable, Upid

# What copies disks, by the type in a UPID.
COPYING = {"qmclone", "qmmove", "qmmigrate", "qmcreate"}
# Shorter ones are over before anybody looks. Of a node's a few are read at a time, by chance.
LONG = datetime.timedelta(seconds=5)
A_FEW, EVERY_S = 3, 2.0
# "transferred 1.0 GiB of 4.0 GiB (25.00%)", also behind a drive's name.
DONE = re.compile(r"transferred .* \((\d+(?:\.\d+)?)%\)")

_read_at: dict[str, float] = {}


def follow_copies(client: Client, node: str, running: dict[str, int], *, timeout_s: float) -> None:
    """Of the running tasks, by UPID, some that copy: note how far they are. Raises Unreachable."""
    copying = [key for upid, key in running.items() if Upid.parse(upid).type in COPYING]
    if not copying or time.monotonic() - _read_at.get(node, 0.0) < EVERY_S:
        return
    _read_at[node] = time.monotonic()
    long = Operation.objects.filter(
        pk__in=copying, submitted_at__lt=Now() - LONG, is_undoing=False
    ).exclude(upid="")
    found = list(long)
    for operation in random.sample(found, min(A_FEW, len(found))):
        try:
            lines = client.task_log(Upid.parse(operation.upid), timeout_s=timeout_s)
        except Unreachable:
            raise
        except ProxmoxError:
            continue
        note(operation, percent_in(lines))


def percent_in(lines: list[str]) -> float:
    """The last that a copying task's log says, 0 to 100."""
    matches = (DONE.search(line) for line in reversed(lines))
    return next((min(100.0, float(match[1])) for match in matches if match), 0.0)


def note(operation: Operation, percent: float) -> None:
    """As a part of the whole, in which each step counts alike; it never goes back, though each disk
    begins at 0 again."""
    try:
        names = [step.name for step in plan_for(operation.kind).steps]
    except UnknownHere:
        return
    if operation.step not in names:
        return
    progress = int((100 * names.index(operation.step) + percent) / len(names))
    Operation.objects.filter(
        pk=operation.pk,
        upid=operation.upid,
        task_exit="",
        state=RUNNING,
        is_undoing=False,
        progress__lt=progress,
    ).update(progress=progress)
