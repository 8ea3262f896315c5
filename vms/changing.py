"""From what a PATCH named to the options that Proxmox is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from accounts.crypto import Unsealable
from operations.refusals import Conflict, InvalidInput, Unavailable
from vms.asked import CloudInit, VmChanges
from vms.creation import check_iso_storage, find_size, secrets_in
from vms.models import GIB, VirtualMachine
from vms.quota import Amount
from vms.userdata import read_sealed, sealable


@dataclass(frozen=True)
class Changes:
    """The operation's parameters ({} when nothing is for Proxmox), secrets, and what grows."""

    params: dict[str, Any]
    secrets: dict[str, Any]
    growth: Amount


def draft_changes(vm: VirtualMachine, changes: VmChanges) -> Changes:
    """Raises Refusal for what cannot be."""
    size = find_size(changes.size or "")
    cores = changes.cores or (size.cores if size else None)
    memory_mib = changes.memory_mib or (size.memory_mib if size else None)
    disk_gib = wanted_disk(vm, changes, size.disk_gib if size else None)
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
    secrets = changed_secrets(vm, changes.cloud_init)
    growth = Amount(
        cores=max(0, (cores or 0) - vm.cores),
        memory_mib=max(0, (memory_mib or 0) - vm.memory_mib),
        disk_bytes=max(0, disk_gib * GIB - vm.disk_bytes),
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


def changed_secrets(vm: VirtualMachine, cloud_init: CloudInit | None) -> dict[str, Any]:
    """A VM with user-data of its own gets a new ISO: what was not named stays as it was sealed."""
    if cloud_init is None:
        return {}
    try:
        present = read_sealed(vm)
    except Unsealable as error:
        raise Unavailable("secret_unreadable", str(error)) from None
    if present is None:
        if cloud_init.user_data:
            check_iso_storage(vm.cluster)
        return secrets_in(cloud_init)
    named = {name: value for name, value in sealable(cloud_init).items() if value}
    return {"user_data": present | named}


def wanted_disk(vm: VirtualMachine, changes: VmChanges, of_size: int | None) -> int:
    """GiB to grow to, 0 for none. A size smaller than the disk leaves the disk; a disk cannot
    be asked to shrink."""
    if changes.disk_gib is not None and changes.disk_gib * GIB < vm.disk_bytes:
        raise InvalidInput(
            "disk_size",
            f"The disk of VM {vm} has {vm.disk_gib} GiB and cannot shrink to {changes.disk_gib}.",
        )
    wanted = changes.disk_gib or of_size or 0
    return wanted if wanted * GIB > vm.disk_bytes else 0


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


def write_own_fields(vm: VirtualMachine, changes: VmChanges) -> None:
    """Metadata and protection are Izvor's own, and change at once. In the action's transaction."""
    values: dict[str, Any] = {}
    if changes.metadata is not None:
        values["metadata"] = changes.metadata
    if changes.is_protected is not None:
        values["is_protected"] = changes.is_protected
    if not values:
        return
    rows = VirtualMachine.objects.filter(pk=vm.pk, deleted_at=None).update(**values)
    if rows != 1:
        raise Conflict("vm_gone", f"VM {vm} was deleted meanwhile.")
