"""Locks on VMs: somebody's work, which ends, or what a dead Proxmox worker left, which stays.

No token can clear the latter, a person must: `qm unlock`, as root on the node.
"""

from __future__ import annotations

import datetime

from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from clusters.privileges import held_on
from operations.models import Operation
from operations.plans import Job, StepFailed, Wait
from vms.job import READ_S, VmJob, find_guest

# What is locked so has a task that does it. Imports on the command line (`create`) and backup tools
# other than Proxmox's own lock without one, and `suspended` is a state.
OF_TASKS = frozenset({"clone", "migrate", "snapshot", "snapshot-delete", "rollback"})


def refuse_stuck_lock(job: VmJob, kinds: frozenset[str]) -> None:
    """Our task's worker died: a lock of its kind stays until root@pam unlocks the VM.

    Raises StepFailed that says what to type. Other locks are somebody's work, and end.
    """
    found = job.find()
    if found is not None and found[1].lock in kinds:
        raise stuck(job, found[0], job.vm.vmid, found[1].lock)


def unlocked(
    job: Job, node: str, vmid: int, lock: str, *, of_tasks: frozenset[str] = OF_TASKS
) -> Wait:
    """To wait for the end of the lock that VM `vmid` on `node` was just seen to have.

    Raises StepFailed when no task is left that would release it: the answer that named our task was
    lost, and its worker died; or it was somebody else's.
    """
    is_long = lock in of_tasks and has_lasted(job.operation)
    seen_before = job.notes.pop("unheld", None) == lock
    if is_long and not is_worked_on(job, node, vmid):
        # A task unlocks before it ends: what is still locked now was locked by none that ran, but
        # maybe by one that has just begun. That one is seen by the next look.
        found = find_guest(job, node, vmid)
        if found is not None and found[1].lock == lock:
            if seen_before:
                raise stuck(job, found[0], vmid, lock)
            job.notes["unheld"] = lock
    return Wait(f"VM {vmid} to be unlocked ({lock})", check_s=3.0 if is_long else 1.0)


def stuck(job: Job, node: str, vmid: int, lock: str | None) -> StepFailed:
    job.notes["stuck"] = lock
    return StepFailed(
        "stuck_lock",
        f"VM {vmid} is locked ({lock}), and the Proxmox task that would unlock it is dead. "
        f"No token can clear a lock. As root on {node}: qm unlock {vmid}",
    )


def has_lasted(operation: Operation) -> bool:
    """Has the wait, and has our last call been over, for longer than Proxmox takes to list a task?

    In database time: workers' clocks may differ.
    """
    before = Now() - datetime.timedelta(seconds=settings.ENGINE["grace_s"])
    is_over = Q(call_ends_at=None) | Q(call_ends_at__lte=before)
    this = Operation.objects.filter(is_over, pk=operation.pk, waiting_since__lte=before)
    return this.exists()


def is_worked_on(job: Job, node: str, vmid: int) -> bool:
    """May a task be at work on this VM? On its node first; at its end a migration has moved the VM
    already, still locked, and works on the node that it came from."""
    granted = job.client.permissions(timeout_s=READ_S)
    online = job.operation.cluster.nodes.filter(status="online", missing_since=None)
    names = [node, *online.exclude(name=node).values_list("name", flat=True)]
    return any(
        # Where it may not, Izvor is not shown the tasks of others.
        "Sys.Audit" not in held_on(granted, f"/nodes/{name}") or has_task(job, name, vmid)
        for name in names
    )


def has_task(job: Job, node: str, vmid: int) -> bool:
    """Does it run one on this VM, or that may be? A clone's bears the number of its source."""
    tasks = job.client.tasks(node, source="active", timeout_s=READ_S)
    running = [task.upid for task in tasks if task.is_running]
    if any(upid.id == str(vmid) and upid.type.startswith("qm") for upid in running):
        return True
    clones = {str(upid) for upid in running if upid.type == "qmclone"}
    others = Operation.objects.filter(upid__in=clones).exclude(pk=job.operation.pk)
    return len(clones) > others.count()
