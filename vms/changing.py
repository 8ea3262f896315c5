"""From what a PATCH named to the options that Proxmox is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from accounts.actors import Actor
from accounts.crypto import Unsealable
from accounts.models import Project
from clusters.models import Cluster
from events.models import record_event
from operations.claims import Claimed
from operations.enqueue import holder_of
from operations.models import Operation
from operations.refusals import Conflict, InvalidInput, NotAllowed, Unavailable
from proxmox import ProxmoxError
from vms import observe
from vms.asked import CloudInit, VmChanges
from vms.creation import check_iso_storage, find_size, secrets_in
from vms.models import GIB, UserData, VirtualMachine
from vms.placement import check_fits
from vms.preflight import LOOK_S, client_of
from vms.quota import Amount, Headroom
from vms.userdata import read_sealed, sealable


@dataclass(frozen=True)
class Changes:
    """The operation's parameters ({} when nothing is for Proxmox), secrets, and what grows."""

    params: dict[str, Any]
    secrets: dict[str, Any]
    growth: Amount


# What an operator or a customer changes in Izvor alone, and what the audit calls it.
OWN_EVENTS = {
    "metadata": "vm.metadata_changed",
    "is_protected": "vm.protection_changed",
    "project": "vm.assigned",
}


def draft_changes(vm: VirtualMachine, changes: VmChanges, *, by: Actor) -> Changes:
    """Raises Refusal for what cannot be."""
    if changes.project is not None and not by.is_operator:
        raise NotAllowed("operators_only", "Only an operator gives a VM to a project.")
    size = find_size(changes.size or "")
    cores = changes.cores or (size.cores if size else None)
    memory_mib = changes.memory_mib or (size.memory_mib if size else None)
    check_fits(vm, cores=cores or 0, memory_mib=memory_mib or 0, network=changes.network or "")
    disk_gib = grown_disk(
        f"VM {vm}", vm.disk_bytes, changes.disk_gib, size.disk_gib if size else None
    )
    options: dict[str, Any] = {
        "name": changes.name,
        "description": changes.description,
        "tags": None if changes.tags is None else ";".join(changes.tags),
        "cores": cores,
        "sockets": 1 if cores else None,
        "memory": memory_mib,
    }
    options |= cloud_init_options(changes.cloud_init)
    options = {name: value for name, value in options.items() if value is not None}
    secrets = {}
    if changes.cloud_init is not None:
        check_seed(vm, changes.cloud_init)
        secrets = changed_secrets(user_data_of(vm), vm.cluster, changes.cloud_init)
    growth = Amount.of_growth(
        vm, cores=cores or 0, memory_mib=memory_mib or 0, disk_bytes=disk_gib * GIB
    )
    nothing = not (options or secrets or disk_gib or changes.network)
    return Changes(
        params={}
        if nothing
        else {
            "options": options,
            "disk_gib": disk_gib,
            "network": changes.network or "",
            "size": size.name if size else None,
            "growth": asdict(growth),
        },
        secrets=secrets,
        growth=growth,
    )


def check_seed(vm: VirtualMachine, cloud_init: CloudInit) -> None:
    """Raises InvalidInput where no drive would bring it to the VM, as far as the cluster says so
    in time. Where there is user-data, a new ISO does."""
    has_iso = cloud_init.user_data or UserData.objects.filter(vm=vm).exists()
    if cloud_init.is_empty or has_iso or vm.doing:
        return
    try:
        config = client_of(vm.cluster).guest_config(vm.node, vm.vmid, timeout_s=LOOK_S)
    except ProxmoxError:
        return
    if not any(disk.is_cloudinit for disk in config.disks):
        raise InvalidInput(
            "cloud_init",
            f"VM {vm} has no cloud-init drive, so this could not be applied: add one in Proxmox.",
        )


def growth_by_rollback(vm: VirtualMachine, name: str) -> Amount:
    """What the VM takes more once it is as it was at that snapshot, as far as the cluster says so
    in time."""
    client = client_of(vm.cluster)
    try:
        then = client.guest_config(vm.node, vm.vmid, snapshot=name, timeout_s=LOOK_S)
    except ProxmoxError:
        return Amount()
    values = observe.config_values(vm, then)
    return Amount.of_growth(
        vm, **{name: values[name] for name in ("cores", "memory_mib", "disk_bytes")}
    )


def user_data_of(vm: VirtualMachine) -> dict[str, Any] | None:
    """What the VM's ISO was made from. Raises Unavailable when the secret key has changed."""
    try:
        return read_sealed(vm)
    except Unsealable as error:
        raise Unavailable("secret_unreadable", str(error)) from None


def changed_secrets(
    present: dict[str, Any] | None, cluster: Cluster, cloud_init: CloudInit
) -> dict[str, Any]:
    """With user-data there is a new ISO to make: what was not named stays as it was sealed."""
    if present is None:
        if cloud_init.user_data:
            check_iso_storage(cluster)
        return secrets_in(cloud_init)
    named = {name: value for name, value in sealable(cloud_init).items() if value}
    return {"user_data": present | named}


def grown_disk(what: str, present_bytes: int, asked_gib: int | None, of_size: int | None) -> int:
    """GiB to grow to, 0 for none. A size smaller than the disk leaves the disk; a disk cannot
    be asked to shrink."""
    if asked_gib is not None and asked_gib * GIB < present_bytes:
        raise InvalidInput(
            "disk_size",
            f"The disk of {what} has {round(present_bytes / GIB, 2):g} GiB and cannot shrink to "
            f"{asked_gib}.",
        )
    wanted = asked_gib or of_size or 0
    return wanted if wanted * GIB > present_bytes else 0


def cloud_init_options(cloud_init: CloudInit | None) -> dict[str, Any]:
    if cloud_init is None:
        return {}
    return {
        "ciuser": cloud_init.user or None,
        "sshkeys": "\n".join(cloud_init.ssh_keys) or None,
        "ipconfig0": cloud_init.ip_config or None,
        "nameserver": " ".join(cloud_init.dns) or None,
        "searchdomain": cloud_init.searchdomain or None,
    }


def write_own_fields(vm: VirtualMachine, changes: VmChanges, *, by: Actor) -> None:
    """Metadata, protection and project are Izvor's own, and change at once.

    In the action's transaction. Raises Conflict, and NotAllowed where the project's quota is full.
    """
    values: dict[str, Any] = {}
    if changes.metadata is not None:
        values["metadata"] = changes.metadata
    if changes.is_protected is not None:
        values["is_protected"] = changes.is_protected
    project = find_project(changes.project) if changes.project else None
    if changes.project is not None and project != vm.project:
        Headroom.of(project).take(Amount.of(vm))
        values["project"] = project
    if not values:
        return
    row = VirtualMachine.objects.filter(pk=vm.pk, deleted_at=None)
    # What a task makes of it belongs to the project that asked for that.
    if (row.filter(doing="") if "project" in values else row).update(**values) != 1:
        if holder := holder_of(vm.claim):
            raise Claimed(holder)
        raise Conflict("vm_gone", f"VM {vm} was deleted meanwhile.")
    if "project" in values:
        # Who had it before neither cancels its tasks nor tries them again.
        Operation.objects.filter(subject=vm.uuid).update(project=project)
    for name, value in values.items():
        record_event(
            OWN_EVENTS[name],
            by=by,
            project_id=project.pk if project else vm.project_id,
            subject=vm.uuid,
            label=str(vm),
            **changed_from_to(getattr(vm, name), value),
        )
    if changes.project is not None:
        # What it grows by at the same time is the new one's.
        vm.project = project


def changed_from_to(was: Any, now: Any) -> dict[str, Any]:
    """For the audit; metadata may be long, and somebody's secret."""
    if isinstance(now, dict):
        return {}
    values = {"was": was, "now": now}
    return {name: None if value is None else str(value) for name, value in values.items()}


def find_project(name: str) -> Project:
    project = Project.objects.filter(name=name).first()
    if project is None:
        raise InvalidInput("project", f"There is no project {name!r}.", code="project_not_found")
    return project
