"""Changing a VM: its configuration, its node, its nature."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from django.db.models.functions import Now
from django.utils import timezone

from operations.plans import Act, Cancel, Done, Step, StepFailed, Verdict
from proxmox import OutcomeUnknown, ProxmoxError, Upid
from templates_app.models import Template
from vms import observe
from vms.job import READ_S, VmJob
from vms.marks import with_mark
from vms.models import PAUSED, RUNNING, SETTLED_AFTER, Size, VirtualMachine
from vms.sourcing import lanes_in
from vms.steps.creation import Configure
from vms.steps.locks import refuse_stuck_lock, unlocked
from vms.steps.snapshots import Observe


class Reconfigure(Configure):
    """The options that a PATCH named, and no others."""

    name: ClassVar[str] = "reconfigure"
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def is_needed(self, job: VmJob) -> bool:
        return bool(job.params["options"] or job.params["network"] or job.secrets)

    def record(self, job: VmJob) -> None:
        """A VM whose hardware was changed by parts is of no size any more."""
        super().record(job)
        # The row has it now: it is not to be counted twice in the quota.
        growth = job.params["growth"] | {"cores": 0, "memory_mib": 0}
        job.write(params=job.params | {"growth": growth})
        named = job.params["size"]
        by_parts = {"cores", "memory"} & set(job.params["options"])
        if named or by_parts:
            size = Size.objects.filter(name=named).first() if named else None
            observe.save(job.vm, {"size": size})

    def wanted(self, job: VmJob) -> dict[str, Any]:
        options = dict(job.params["options"])
        if "description" in options and job.vm.is_ours:
            options["description"] = with_mark(options["description"], job.mark)
        network = self.network(job, job.params["network"])
        return options | ({"net0": network} if network else {})


class ObserveChanged(Observe):
    """What waits for a reboot is noted, from this change or one before."""

    def look(self, job: VmJob) -> Verdict:
        verdict = super().look(job)
        pending = job.client.guest_pending(job.vm.node, job.vm.vmid, timeout_s=READ_S)
        job.notes["pending"] = sorted(option.key for option in pending if option.is_pending)
        return verdict


class Migrate(Step[VmJob]):
    """On the wanted node. A running VM goes on running, its local disks are copied along."""

    name: ClassVar[str] = "migrate"
    patience_s: ClassVar[float] = 6 * 3600
    settle_s: ClassVar[float] = 180
    cancel: ClassVar[Cancel] = Cancel.ABORT

    def look(self, job: VmJob) -> Verdict:
        lock = job.config().lock
        if lock:
            return unlocked(job, job.vm.node, job.vm.vmid, lock)
        if job.vm.node == self.target(job)["node"]:
            return Done()
        return Act(f"VM {job.vm.vmid} is on {job.vm.node}")

    def target(self, job: VmJob) -> dict[str, Any]:
        """`node`, and a `storage` there if not the same ones."""
        return job.params

    def act(self, job: VmJob) -> Upid | None:
        target = self.target(job)
        return job.client.migrate(
            job.vm.node,
            job.vm.vmid,
            target["node"],
            online=observe.power_of(job.status()) in {RUNNING, PAUSED},
            with_local_disks=True,
            targetstorage=target.get("storage") or None,
            timeout_s=job.call_s(),
        )

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        if isinstance(error, OutcomeUnknown) and not job.operation.cancel_requested_at:
            refuse_stuck_lock(job, frozenset({"migrate"}))
        return None

    def record(self, job: VmJob) -> None:
        observe.save(job.vm, {"node": job.vm.node, "details_at": None})


class Move(Migrate):
    """A fresh clone of a template on local storage of another node, on its way to its own."""

    name: ClassVar[str] = "move"
    # An aborted copy may leave its half on the other node, where no undoing would look for it.
    cancel: ClassVar[Cancel] = Cancel.FINISH_THEN_UNDO

    def is_needed(self, job: VmJob) -> bool:
        return bool(job.params.get("move"))

    def target(self, job: VmJob) -> dict[str, Any]:
        return job.params["move"]  # type: ignore[no-any-return]

    def lanes(self, params: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        return lanes_in(params["move"])


def offered(job: VmJob, original: Template | None) -> bool:
    """To everybody? What a member made of its VM is its project's, until an operator says so."""
    if original is not None:
        return original.is_published
    return bool(job.params.get("published", True))


class Convert(Step[VmJob]):
    """A template, and no VM any more. There is no way back."""

    name: ClassVar[str] = "convert"
    settle_s: ClassVar[float] = 10
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def look(self, job: VmJob) -> Verdict:
        config = job.config()
        if config.is_template:
            return Done()
        if config.lock:
            return unlocked(job, job.vm.node, job.vm.vmid, config.lock)
        if not job.status().is_stopped:
            raise StepFailed("wrong_state", f"VM {job.vm.vmid} was started meanwhile.")
        job.refuse_protected()
        return Act(f"VM {job.vm.vmid} is no template")

    def act(self, job: VmJob) -> Upid | None:
        return job.client.convert_to_template(job.vm.node, job.vm.vmid, timeout_s=job.call_s())

    def record(self, job: VmJob) -> None:
        config, now = job.config(), timezone.now()
        VirtualMachine.objects.filter(pk=job.vm.pk).update(deleted_at=now)
        # One that inventory found before we could say that it is this VM.
        Template.objects.living().filter(cluster=job.vm.cluster, vmid=job.vm.vmid).delete()
        copy_of = job.params.get("copy_of")
        original = Template.objects.filter(uuid=copy_of).first() if copy_of else None
        template = Template(
            # The handle that the request was answered with, and that the mark names.
            uuid=job.vm.uuid,
            cluster=job.vm.cluster,
            vmid=job.vm.vmid,
            node=job.vm.node,
            name=config.name or job.vm.name,
            tags=sorted(config.tags),
            copy_of=original,
            is_published=offered(job, original),
            project_id=original.project_id if original else job.vm.project_id,
            synced_at=now,
            settled_at=Now() + SETTLED_AFTER,
        )
        for name, value in observe.template_values(template, config).items():
            setattr(template, name, value)
        template.save(force_insert=True)
        # The original may have gone while it was copied.
        Template.objects.give_heirs()
