"""How far Proxmox tasks are that copy disks: their logs say so, once in a while.

A full clone takes minutes. Without this a task would stand at what the steps before it came to.
"""

from __future__ import annotations

import datetime
import random
import re
import time

import structlog
from django.db.models.functions import Now

from operations.models import RUNNING, Operation
from operations.plans import UnknownHere, plan_for
from proxmox import Client, ProxmoxError, Upid

log = structlog.get_logger(__name__)

# What copies disks, by the type in a UPID.
COPYING = {"qmclone", "qmmove", "qmmigrate", "qmcreate"}
# Shorter ones are over before anybody looks. Of a node's a few are read at a time, by chance.
LONG = datetime.timedelta(seconds=5)
A_FEW, EVERY_S = 3, 2.0
# Ends are waited for, this is not: a slow log is left alone.
LOG_S = 1.0
# "transferred 1.0 GiB of 4.0 GiB (25.00%)", also behind a drive's name.
DONE = re.compile(r"transferred .* \((\d+(?:\.\d+)?)%\)")

# When this process has last read some, by cluster and node.
_read_at: dict[tuple[int, str], float] = {}


def follow_copies(client: Client, cluster: int, node: str, running: dict[str, int]) -> None:
    """Of some of a node's running tasks (operations by UPID) that copy: note how far they are."""
    copying = [key for upid, key in running.items() if upid.split(":")[5] in COPYING]
    if not copying or time.monotonic() - _read_at.get((cluster, node), 0.0) < EVERY_S:
        return
    _read_at[cluster, node] = time.monotonic()
    long = Operation.objects.filter(pk__in=copying, submitted_at__lt=Now() - LONG)
    found = list(long.exclude(upid=""))
    for operation in random.sample(found, min(A_FEW, len(found))):
        try:
            lines = client.task_log(Upid.parse(operation.upid), timeout_s=LOG_S)
        except ProxmoxError as error:
            log.info("log_unread", upid=operation.upid, error=str(error))
            return
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
