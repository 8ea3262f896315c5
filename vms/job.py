"""A VM's operation in a worker's hands: the rows, the client, and what was read this turn."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from accounts.prepared import Prepared, Slot
from operations import lanes
from operations.enqueue import secrets_of
from operations.models import Operation
from operations.plans import Job, StepFailed
from proxmox import Client, NotFound, Unreachable, Upid
from proxmox.results import GuestConfig, GuestStatus, Snapshot
from templates_app.models import Template
from vms.marks import Mark, read_mark
from vms.models import CREATIONS, GivenUpVmid, VirtualMachine
from vms.vmids import next_vmid

READ_S = 10.0
# A restart of the cluster filesystem takes seconds; after this long an empty list is the truth.
EMPTY_FOR_S = 60.0


@dataclass
class VmJob(Job):
    vm: VirtualMachine = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self._config: GuestConfig | None = None
        self._status: GuestStatus | None = None
        self._snapshots: tuple[Snapshot, ...] | None = None

    def forget_observations(self) -> None:
        self._config = self._status = self._snapshots = None

    @property
    def secrets(self) -> dict[str, Any]:
        return secrets_of(self.operation)

    @property
    def mark(self) -> Mark:
        return Mark(cluster=self.operation.cluster.uuid, vm=self.vm.uuid, vmid=self.vm.vmid)

    # --- what Proxmox says ---

    def config(self) -> GuestConfig:
        """The VM's own configuration, read once a turn.

        Raises StepFailed when another VM stands under its number, or none.
        """
        if self._config is None:
            found = self.find()
            if found is None:
                raise StepFailed("vm_gone", f"VM {self.vm.vmid} is no longer on the cluster.")
            node, config = found
            if not self.is_it(config):
                raise StepFailed(
                    "vm_replaced",
                    f"VMID {self.vm.vmid} is another VM now (smbios uuid {config.smbios_uuid}); "
                    "it was left alone.",
                )
            self.saw(node, config)
            self._config = config
        return self._config

    def status(self) -> GuestStatus:
        """Power and lock now. Raises as `config`."""
        if self._status is None:
            self.config()
            self._status = self.client.guest_status(self.vm.node, self.vm.vmid, timeout_s=READ_S)
        return self._status

    def snapshots(self) -> tuple[Snapshot, ...]:
        """The VM's snapshots, read once a turn. Raises as `config`."""
        if self._snapshots is None:
            self.config()
            self._snapshots = self.client.snapshots(self.vm.node, self.vm.vmid, timeout_s=READ_S)
        return self._snapshots

    def saw(self, node: str, config: GuestConfig) -> None:
        """Keep for this turn what was read, and where our VM is."""
        self._config = config
        if node != self.vm.node:
            VirtualMachine.objects.filter(pk=self.vm.pk).update(node=node)
            self.vm.node = node

    def is_gone(self) -> bool:
        """Nothing of our VM is on the cluster. Raises StepFailed when it is a template by now."""
        if self.vm.deleted_at is not None:
            if Template.objects.living().filter(uuid=self.vm.uuid).exists():
                raise StepFailed(
                    "wrong_state", f"VM {self.vm} has become a template: delete that one."
                )
            return True
        found = self.find()
        if found is None:
            return True
        # A failed creation's number that somebody else has by now: there is nothing to delete.
        return self.vm.has_failed and not found[1].lock and not self.is_it(found[1])

    def is_it(self, config: GuestConfig) -> bool:
        """Is this configuration our VM's? Never by the number alone.

        By smbios uuid once that was seen (at the latest when an action on it was accepted), before
        by the mark. What a clone that died left behind has neither, if it died early.
        """
        if self.vm.smbios_uuid is not None:
            return config.smbios_uuid == str(self.vm.smbios_uuid)
        if self.vm.is_ours:
            # A retry makes it anew, and may find somebody else's half-made one under its number.
            is_to_go = self.vm.has_failed and self.operation.kind not in CREATIONS
            is_leftover = is_to_go and is_half_made(config)
            return is_leftover or read_mark(config.description) == self.mark
        return config.smbios_uuid is None

    def find(self) -> tuple[str, GuestConfig] | None:
        """Whatever VM stands under our number, with its node; None when the cluster has none."""
        return find_guest(self, self.vm.node, self.vm.vmid)

    def own_tasks(self, kind: str) -> list[str]:
        """UPIDs of this kind on our VM, asked for with our credentials and not by a person."""
        cluster = self.operation.cluster
        mine = cluster.token_id or cluster.user
        tasks = self.client.tasks(
            self.vm.node, source="all", vmid=self.vm.vmid, typefilter=kind, timeout_s=READ_S
        )
        return [str(task.upid) for task in tasks if owner_of(task.upid) == mine]

    # --- our rows ---

    def refuse_protected(self) -> None:
        """Before what there is no way back from is asked for: its owner may have protected the VM
        since the task was accepted. Raises StepFailed."""
        was_asked = self.operation.submitted_at or self.operation.acted_at
        if self.vm.why_protected and not was_asked:
            raise StepFailed("protected", self.vm.why_protected)

    def move_to(self, node: str, placed: dict[str, Any]) -> None:
        """Make the VM on another node than was chosen when it was accepted, and say so."""
        old = self.vm.node
        with transaction.atomic():
            VirtualMachine.objects.filter(pk=self.vm.pk).update(node=node)
            # Its lanes are not those of the new one. Tickets before the row, as who calls does.
            lanes.leave(self.operation)
            self.write(params=self.operation.params | placed)
            self.warn(f"Node {old} is down; it goes to {node}.")
        self.vm.node = node

    def warn(self, warning: str) -> None:
        """Show it with the task; where it tells of a step's end, in that one's transaction."""
        self.write(warnings=[*self.operation.warnings, warning])

    def take_another_vmid(self) -> None:
        """Another guest has our provisional number: take the next, warn, say so to who asks."""
        old = self.vm.vmid
        new = next_vmid(self.operation.cluster)
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
            # Whatever was done was done under the old number.
            self.write(subject_label=f"{new} {self.vm.name}", acted_at=None)
            self.warn(f"VMID {old} was taken by a guest that Izvor did not make; it is {new}.")
        self.vm.vmid = new
        self.forget_observations()


def find_guest(job: Job, node: str, vmid: int) -> tuple[str, GuestConfig] | None:
    """Whatever VM stands under the number, with its node; None when the cluster has none.

    On this node, else wherever HA or a person has moved it, maybe because that node is down; a
    clone to another node begins on its source's. Raises Unreachable rather than guess.
    """
    client = job.client
    try:
        return node, client.guest_config(node, vmid, timeout_s=READ_S)
    except NotFound as error:
        if error.what not in {"guest", "node"}:
            raise
        silence = None
    except Unreachable as error:
        silence = error
    guests = client.resources(timeout_s=READ_S).guests
    there = next((guest.node for guest in guests if guest.vmid == vmid), None)
    if silence and there in {None, node}:
        raise silence
    if not guests and not is_believed_empty(job.operation):
        raise Unreachable(f"the cluster lists no VM at all, VM {vmid} neither")
    if there is None:
        return None
    if there == node:
        raise Unreachable(f"the cluster lists VM {vmid} on {node}, and {node} does not know it")
    return there, client.guest_config(there, vmid, timeout_s=READ_S)


def is_believed_empty(operation: Operation) -> bool:
    """An empty list proves no VM gone until it has stayed so.

    While a node's pmxcfs restarts, the node knows no configuration and lists no guest (cfs_update
    in pve-cluster empties its lists then), with an answer that looks as good as any.
    """
    # In database time, as silences are noted: workers' clocks may differ.
    before = Now() - datetime.timedelta(seconds=EMPTY_FOR_S)
    return Operation.objects.filter(pk=operation.pk, silent_since__lte=before).exists()


def is_half_made(config: GuestConfig) -> bool:
    """What Proxmox writes first: a clone's placeholder, kept until its first disk is copied, or the
    empty configuration of a VM that is being made from nothing."""
    if config.smbios_uuid is not None:
        return False
    is_empty = not (config.description or config.name or config.disks)
    return is_empty or config.description.strip() == "qmclone temporary file"


def owner_of(upid: Upid) -> str:
    return f"{upid.user}!{upid.tokenid}" if upid.tokenid else upid.user


SUBJECT = Prepared(lambda: VirtualMachine.objects.filter(uuid=Slot("uuid")).order_by())


def open_job(operation: Operation, client: Client) -> VmJob:
    vm = SUBJECT.first(uuid=operation.subject)
    if vm is None:
        raise StepFailed("vm_gone", "Izvor's record of the VM was removed meanwhile.")
    # The same cluster, which was read with the operation.
    vm.cluster = operation.cluster
    return VmJob(operation=operation, client=client, vm=vm)
