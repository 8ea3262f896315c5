"""Snapshots: taking, deleting, rolling back."""

from __future__ import annotations

from typing import ClassVar

from operations.plans import Act, Cancel, Done, Step, StepFailed, Verdict, Wait
from proxmox import OutcomeUnknown, ProxmoxError, Upid
from proxmox.results import Snapshot
from vms import observe
from vms.job import VmJob
from vms.marks import read_mark, with_mark, without_mark
from vms.steps.locks import refuse_stuck_lock, unlocked


def find(job: VmJob, name: str) -> Snapshot | None:
    """The snapshot of this name; the VM is made sure to be still ours."""
    return next((s for s in job.snapshots() if s.name == name and not s.is_current), None)


class SnapshotStep(Step[VmJob]):
    """Proxmox locks the VM while it works; memory on slow storage takes its time."""

    patience_s: ClassVar[float] = 3600
    settle_s: ClassVar[float] = 10
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        if isinstance(error, OutcomeUnknown):
            refuse_stuck_lock(job, frozenset({"snapshot", "snapshot-delete", "rollback"}))
        return None

    def record(self, job: VmJob) -> None:
        observe.save_snapshots(job.vm, job.snapshots())

    def busy(self, job: VmJob) -> Wait | None:
        lock = job.config().lock
        if lock and lock != "suspended":
            return unlocked(job, job.vm.node, job.vm.vmid, lock)
        return None


class TakeSnapshot(SnapshotStep):
    name: ClassVar[str] = "take_snapshot"

    def look(self, job: VmJob) -> Verdict:
        name = job.params["snapshot"]
        there = find(job, name)
        if there and job.operation.attempts == 0:
            raise StepFailed("snapshot_exists", f"VM {job.vm.vmid} has a snapshot {name} already.")
        return self.busy(job) or (Done() if there else Act(f"there is no snapshot {name}"))

    def act(self, job: VmJob) -> Upid | None:
        return job.client.take_snapshot(
            job.vm.node,
            job.vm.vmid,
            job.params["snapshot"],
            description=job.params["description"] or None,
            with_ram=job.params["include_ram"],
            timeout_s=job.call_s(),
        )

    def record(self, job: VmJob) -> None:
        super().record(job)
        taken = find(job, job.params["snapshot"])
        if job.params["include_ram"] and taken and not taken.has_ram:
            job.warn(f"VM {job.vm.vmid} was not running, so there was no memory to keep.")


class DeleteSnapshot(SnapshotStep):
    name: ClassVar[str] = "delete_snapshot"

    def look(self, job: VmJob) -> Verdict:
        name = job.params["snapshot"]
        there = find(job, name)
        return self.busy(job) or (Act(f"snapshot {name} is still there") if there else Done())

    def act(self, job: VmJob) -> Upid | None:
        return job.client.delete_snapshot(
            job.vm.node, job.vm.vmid, job.params["snapshot"], timeout_s=job.call_s()
        )


class Rollback(SnapshotStep):
    """Back to the snapshot. What was before cannot be told from what is after: sent once."""

    name: ClassVar[str] = "rollback"
    is_at_most_once: ClassVar[bool] = True

    def look(self, job: VmJob) -> Verdict:
        name = job.params["snapshot"]
        if find(job, name) is None:
            raise StepFailed("snapshot_gone", f"VM {job.vm.vmid} has no snapshot {name}.")
        busy = self.busy(job)
        if busy is not None:
            return busy
        if job.operation.acted_at is None:
            return Act(f"VM {job.vm.vmid} was not rolled back yet")
        return Done()

    def act(self, job: VmJob) -> Upid | None:
        return job.client.rollback_snapshot(
            job.vm.node, job.vm.vmid, job.params["snapshot"], timeout_s=job.call_s()
        )

    def find_task(self, job: VmJob) -> list[str]:
        return job.own_tasks("qmrollback")


class MarkAgain(Step[VmJob]):
    """A rollback brings back the description of its day, maybe without our mark."""

    name: ClassVar[str] = "mark_again"
    settle_s: ClassVar[float] = 0
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def is_needed(self, job: VmJob) -> bool:
        return job.vm.is_ours

    def look(self, job: VmJob) -> Verdict:
        if read_mark(job.config().description) == job.mark:
            return Done()
        return Act("the ownership mark is not in the description")

    def act(self, job: VmJob) -> Upid | None:
        text = without_mark(job.config().description)
        job.client.update_config(
            job.vm.node,
            job.vm.vmid,
            changes={"description": with_mark(text, job.mark)},
            timeout_s=job.call_s(),
        )
        return None

    def record(self, job: VmJob) -> None:
        observe.save(job.vm, observe.config_values(job.vm, job.config()))


class Observe(Step[VmJob]):
    """Everything may be as it was then: cores, tags, disks. It is read and written down."""

    name: ClassVar[str] = "observe"
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def look(self, job: VmJob) -> Verdict:
        job.status()
        return Done()

    def act(self, job: VmJob) -> Upid | None:
        raise AssertionError("look() never asks for it")

    def record(self, job: VmJob) -> None:
        values = observe.all_values(job.vm, job.config(), job.status())
        observe.save(job.vm, values)
