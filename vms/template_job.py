"""A template's deletion in a worker's hands."""

from __future__ import annotations

from dataclasses import dataclass

from operations.models import Operation
from operations.plans import Job, StepFailed
from proxmox import Client
from proxmox.results import GuestConfig
from templates_app.models import Template
from vms.job import find_guest


@dataclass
class TemplateJob(Job):
    template: Template = None  # type: ignore[assignment]

    def find(self) -> tuple[str, GuestConfig] | None:
        """Our template with its node; None when it is gone.

        Raises StepFailed when something else stands under its number: that was left alone.
        """
        template = self.template
        found = find_guest(self, template.node, template.vmid)
        if found is not None and not is_it(template, found[1]):
            raise StepFailed(
                "template_replaced",
                f"VMID {template.vmid} is something else now (smbios uuid "
                f"{found[1].smbios_uuid}); it was left alone.",
            )
        return found


def is_it(template: Template, config: GuestConfig) -> bool:
    """Is this configuration the template's? Never by the number alone."""
    known = str(template.smbios_uuid) if template.smbios_uuid else None
    return config.is_template and config.smbios_uuid == known


def open_template_job(operation: Operation, client: Client) -> TemplateJob:
    template = Template.objects.subject_of(operation).first()
    if template is None:
        raise StepFailed("template_gone", "Izvor's record of the template was removed meanwhile.")
    return TemplateJob(operation=operation, client=client, template=template)
