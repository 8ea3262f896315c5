"""Power, and the end of a VM. The hypervisor's state ends each step, not its task's OK."""

from __future__ import annotations

from typing import ClassVar

from operations.plans import Act, Cancel, Done, Step, StepFailed, Verdict, Wait
from proxmox import Conflict, ProxmoxError, Upid
from proxmox.results import GuestConfig
from vms import observe
from vms.job import VmJob
from vms.models import PAUSED, RUNNING, STOPPED, SUSPENDED, is_template_now, protected_in_proxmox
from vms.steps.locks import unlocked


def locked(job: VmJob) -> Wait | None:
    """For whose lock Proxmox would refuse it: asked all the same, each time would be a failed task
    in the node's log. Raises StepFailed."""
    lock = job.config().lock
    if not lock or lock == "suspended":
        return None
    return unlocked(job, job.vm.node, job.vm.vmid, lock)


class PowerStep(Step[VmJob]):
    """A step that ends when the VM's power is one of `wanted`."""

    wanted: ClassVar[frozenset[str]]
    patience_s: ClassVar[float] = 600
    # With HA, OK means "requested": its manager acts within some of its 10 s rounds.
    settle_s: ClassVar[float] = 180

    def look(self, job: VmJob) -> Verdict:
        power = observe.power_of(job.status())
        if power in self.wanted:
            return Done()
        return locked(job) or Act(f"VM {job.vm.vmid} is {power}")

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        if isinstance(error, Conflict) and error.reason == "guest_ignored":
            raise StepFailed(
                "timed_out",
                f"The guest did not shut down within {job.params['timeout_s']} s. Stop it with "
                "`force`, or see that it listens to ACPI or has its agent running.",
            )
        return None

    def record(self, job: VmJob) -> None:
        observe.save(job.vm, observe.status_values(job.status()))


class Start(PowerStep):
    name: ClassVar[str] = "start"
    wanted: ClassVar[frozenset[str]] = frozenset({RUNNING})

    def is_needed(self, job: VmJob) -> bool:
        return bool(job.params.get("start_on_create", True))

    def act(self, job: VmJob) -> Upid | None:
        return job.client.start(job.vm.node, job.vm.vmid, timeout_s=job.call_s())


class Stop(PowerStep):
    """Pull the plug."""

    name: ClassVar[str] = "stop"
    wanted: ClassVar[frozenset[str]] = frozenset({STOPPED, SUSPENDED})
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def act(self, job: VmJob) -> Upid | None:
        return job.client.stop(job.vm.node, job.vm.vmid, timeout_s=job.call_s())


class ShutDown(PowerStep):
    """Ask the guest to go; with `force`, pull the plug when `timeout_s` is over."""

    name: ClassVar[str] = "shutdown"
    wanted: ClassVar[frozenset[str]] = frozenset({STOPPED, SUSPENDED})
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE
    # A guest that will not go is no passing trouble.
    max_attempts: ClassVar[int] = 1

    def act(self, job: VmJob) -> Upid | None:
        if observe.power_of(job.status()) == PAUSED and job.params["force"]:
            # A guest that stands still hears nothing.
            return job.client.stop(job.vm.node, job.vm.vmid, timeout_s=job.call_s())
        return job.client.shutdown(
            job.vm.node,
            job.vm.vmid,
            shutdown_timeout_s=job.params["timeout_s"],
            force_stop=job.params["force"],
            timeout_s=job.call_s(),
        )


class Reboot(PowerStep):
    """Down by itself and up again. Proxmox's task is OK at the bottom of it."""

    name: ClassVar[str] = "reboot"
    wanted: ClassVar[frozenset[str]] = frozenset({RUNNING})
    is_at_most_once: ClassVar[bool] = True
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def look(self, job: VmJob) -> Verdict:
        verdict = super().look(job)
        if job.operation.acted_at is None:
            if isinstance(verdict, Act):
                raise StepFailed("wrong_state", f"{verdict.missing}: only a running VM reboots.")
            return locked(job) or Act(f"VM {job.vm.vmid} was not rebooted yet")
        return verdict

    def act(self, job: VmJob) -> Upid | None:
        return job.client.reboot(
            job.vm.node,
            job.vm.vmid,
            reboot_timeout_s=job.params["timeout_s"],
            timeout_s=job.call_s(),
        )

    def find_task(self, job: VmJob) -> list[str]:
        return job.own_tasks("qmreboot")


class Reset(PowerStep):
    """The reset button: at once, and nothing tells afterwards that it was pressed."""

    name: ClassVar[str] = "reset"
    wanted: ClassVar[frozenset[str]] = frozenset({RUNNING})
    is_at_most_once: ClassVar[bool] = True
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def look(self, job: VmJob) -> Verdict:
        verdict = super().look(job)
        if job.operation.acted_at is None and isinstance(verdict, Done):
            return locked(job) or Act(f"VM {job.vm.vmid} was not reset yet")
        if isinstance(verdict, Act):
            raise StepFailed("wrong_state", f"{verdict.missing}: only a running VM is reset.")
        return verdict

    def act(self, job: VmJob) -> Upid | None:
        return job.client.reset(job.vm.node, job.vm.vmid, timeout_s=job.call_s())

    def find_task(self, job: VmJob) -> list[str]:
        return job.own_tasks("qmreset")


class Suspend(PowerStep):
    """Its CPUs stand still, its memory stays in the node's."""

    name: ClassVar[str] = "suspend"
    wanted: ClassVar[frozenset[str]] = frozenset({PAUSED})
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def act(self, job: VmJob) -> Upid | None:
        return job.client.suspend(job.vm.node, job.vm.vmid, timeout_s=job.call_s())


class Resume(PowerStep):
    """Running again: a paused VM goes on, one suspended to disk is started from there."""

    name: ClassVar[str] = "resume"
    wanted: ClassVar[frozenset[str]] = frozenset({RUNNING})
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def act(self, job: VmJob) -> Upid | None:
        if job.status().is_stopped:
            return job.client.start(job.vm.node, job.vm.vmid, timeout_s=job.call_s())
        return job.client.resume(job.vm.node, job.vm.vmid, timeout_s=job.call_s())


class StartIfAsked(Start):
    """After a rollback: only with `start`."""

    def is_needed(self, job: VmJob) -> bool:
        return bool(job.params["start"])


def refuse_template(job: VmJob, config: GuestConfig) -> None:
    """Others may use it by now. But what a failed creation has left is shown to nobody as one.
    Raises StepFailed."""
    if config.is_template and not job.vm.has_failed:
        raise StepFailed("is_template", is_template_now(job.vm))


class StopForDeletion(Stop):
    """A VM is deleted in any state; one that is protected is not even stopped."""

    name: ClassVar[str] = "stop"

    def look(self, job: VmJob) -> Verdict:
        if job.is_gone():
            return Done()
        job.refuse_protected()
        config = job.config()
        refuse_template(job, config)
        if config.protection:
            raise StepFailed("protected", protected_in_proxmox(f"VM {job.vm}"))
        return locked(job) or super().look(job)

    def record(self, job: VmJob) -> None:
        """The VM's end is written by the next step."""


class Destroy(Step[VmJob]):
    """Gone, with its disks and its places in backup jobs and HA."""

    name: ClassVar[str] = "destroy"
    patience_s: ClassVar[float] = 1800
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def look(self, job: VmJob) -> Verdict:
        if job.is_gone():
            return Done()
        config = job.config()
        if wait := locked(job):
            return wait
        job.refuse_protected()
        refuse_template(job, config)
        return Act(f"VM {job.vm.vmid} is still there")

    def act(self, job: VmJob) -> Upid | None:
        # Never destroy-unreferenced-disks: on storage shared between clusters, somebody else's.
        return job.client.delete_guest(job.vm.node, job.vm.vmid, purge=True, timeout_s=job.call_s())

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        if isinstance(error, Conflict) and error.reason == "running":
            raise StepFailed(
                "wrong_state", f"VM {job.vm.vmid} was started while it was being deleted."
            )
        return None
