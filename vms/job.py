"""A VM's operation in a worker's hands: the rows, the client, and what was read this turn."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from clusters.vmids import next_vmid
from operations.enqueue import secrets_of
from operations.models import Operation
from operations.plans import Job, StepFailed
from proxmox import Client, NotFound
from proxmox.results import GuestConfig, GuestStatus
from vms.marks import Mark, read_mark
from vms.models import GivenUpVmid, VirtualMachine

READ_S = 10.0


@dataclass
class VmJob(Job):
    vm: VirtualMachine = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self._config: GuestConfig | None = None
        self._status: GuestStatus | None = None

    def forget_observations(self) -> None:
        self._config = self._status = None

    @property
    def secrets(self) -> dict[str, Any]:
        return secrets_of(self.operation)

    @property
    def mark(self) -> Mark:
        return Mark(cluster=self.operation.cluster.uuid, vm=self.vm.uuid, vmid=self.vm.vmid)

    # --- what Proxmox says ---

    def config(self) -> GuestConfig:
        """The VM's own configuration, read once a turn.

        Raises StepFailed when another VM stands under its number, NotFound when none does.
        """
        if self._config is None:
            config = self._read_config()
            if not self.is_it(config):
                raise StepFailed(
                    "vm_replaced",
                    f"VMID {self.vm.vmid} is another VM now (smbios uuid {config.smbios_uuid}); "
                    "it was left alone.",
                )
            self._config = config
        return self._config

    def status(self) -> GuestStatus:
        """Power and lock now. Raises as `config`."""
        if self._status is None:
            self.config()
            self._status = self.client.guest_status(self.vm.node, self.vm.vmid, timeout_s=READ_S)
        return self._status

    def saw(self, config: GuestConfig) -> None:
        """Keep for this turn what a step has read itself."""
        self._config = config

    def is_gone(self) -> bool:
        if self.vm.deleted_at is not None:
            return True
        try:
            self._read_config()
        except NotFound as error:
            if error.what != "guest":
                raise
            return True
        return False

    def is_it(self, config: GuestConfig) -> bool:
        """Is this configuration our VM's? By smbios uuid once that was seen, before by the mark."""
        if self.vm.smbios_uuid is not None:
            return config.smbios_uuid == str(self.vm.smbios_uuid)
        if self.vm.is_ours:
            return read_mark(config.description) == self.mark
        return True

    def _read_config(self) -> GuestConfig:
        """On its node, else wherever HA or a person has moved it."""
        try:
            return self.client.guest_config(self.vm.node, self.vm.vmid, timeout_s=READ_S)
        except NotFound as error:
            if error.what != "guest":
                raise
            resources = self.client.resources(timeout_s=READ_S)
            found = [g.node for g in resources.guests if g.vmid == self.vm.vmid]
            if not found or found[0] == self.vm.node:
                raise
        config = self.client.guest_config(found[0], self.vm.vmid, timeout_s=READ_S)
        VirtualMachine.objects.filter(pk=self.vm.pk).update(node=found[0])
        self.vm.node = found[0]
        return config

    # --- our rows ---

    def take_another_vmid(self) -> None:
        """A foreign VM has our provisional number: take the next, warn, and say so to who asks."""
        old = self.vm.vmid
        new = next_vmid(self.operation.cluster, lambda vmid: is_taken(self.operation.cluster, vmid))
        with transaction.atomic():
            rows = VirtualMachine.objects.filter(pk=self.vm.pk, vmid=old).update(vmid=new)
            if rows != 1:
                raise StepFailed("vmid_changed", f"VM {old} was renumbered by somebody else.")
            GivenUpVmid.objects.create(
                cluster=self.operation.cluster,
                vmid=old,
                vm=self.vm,
                until=timezone.now() + datetime.timedelta(days=1),
            )
            warning = f"VMID {old} was taken by a VM that Izvor did not make; this one is {new}."
            label = f"{new} {self.vm.name}"
            Operation.objects.filter(pk=self.operation.pk).update(
                warnings=[*self.operation.warnings, warning], subject_label=label
            )
        self.operation.warnings = [*self.operation.warnings, warning]
        self.operation.subject_label = label
        self.vm.vmid = new
        self.forget_observations()


def open_job(operation: Operation, client: Client) -> VmJob:
    vm = VirtualMachine.objects.subject_of(operation).get()
    return VmJob(operation=operation, client=client, vm=vm)


def is_taken(cluster: Any, vmid: int) -> bool:
    """Known to be in use: by a living VM or a template, or given up to a foreign VM lately."""
    return (
        VirtualMachine.objects.filter(cluster=cluster, vmid=vmid, deleted_at=None).exists()
        or cluster.templates.filter(vmid=vmid, missing_since=None).exists()
        or GivenUpVmid.objects.filter(cluster=cluster, vmid=vmid, until__gt=timezone.now()).exists()
    )
