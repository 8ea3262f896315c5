"""The end of a template."""

from __future__ import annotations

from typing import ClassVar

from operations.plans import Act, Cancel, Done, Step, StepFailed, Verdict
from proxmox import Conflict, ProxmoxError, Upid
from vms.models import protected_in_proxmox
from vms.steps.locks import unlocked
from vms.template_job import TemplateJob


class DestroyTemplate(Step[TemplateJob]):
    """Gone, with its disks; Proxmox refuses while linked clones stand on them."""

    name: ClassVar[str] = "destroy"
    patience_s: ClassVar[float] = 1800
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def look(self, job: TemplateJob) -> Verdict:
        found = job.find()
        if found is None:
            return Done()
        node, config = found
        if config.protection:
            raise StepFailed("protected", protected_in_proxmox(f"Template {job.template}"))
        if config.lock:
            return unlocked(job, node, job.template.vmid, config.lock)
        return Act(f"template {job.template} is still there")

    def act(self, job: TemplateJob) -> Upid | None:
        found = job.find()
        node = found[0] if found else job.template.node
        return job.client.delete_guest(node, job.template.vmid, purge=True, timeout_s=job.call_s())

    def on_refused(self, job: TemplateJob, error: ProxmoxError) -> Verdict | None:
        if isinstance(error, Conflict) and error.reason == "in_use":
            raise StepFailed("has_linked_clones", str(error))
        return None
