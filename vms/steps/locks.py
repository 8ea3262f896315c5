"""Locks that a dead Proxmox worker leaves behind: no token can clear them, a person must."""

from __future__ import annotations

from operations.plans import StepFailed
from vms.job import VmJob


def refuse_stuck_lock(job: VmJob, kinds: frozenset[str]) -> None:
    """Our task's worker died: a lock of its kind stays until root@pam unlocks the VM.

    Raises StepFailed that says what to type. Other locks are somebody's work, and end.
    """
    found = job.find()
    if found is None or found[1].lock not in kinds:
        return
    node, config = found
    job.notes["stuck"] = True
    raise StepFailed(
        "stuck_lock",
        f"Proxmox's worker died on VM {job.vm.vmid} and left the lock {config.lock!r}, which no "
        f"token can clear. As root on {node}: qm unlock {job.vm.vmid}",
    )
