"""Writing what Proxmox shows about a VM into its row: one place for steps and inventory alike."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from clusters.models import Storage
from proxmox.results import GuestConfig, GuestStatus
from proxmox.results import Snapshot as Found
from templates_app.models import TAG_LENGTH, Template, os_type_of
from vms.marks import read_mark, without_mark
from vms.models import MIB, PAUSED, RUNNING, STOPPED, SUSPENDED, Snapshot, VirtualMachine, VmUsage
from vms.volumes import vm_of_user_data


def tags_of(shown: Iterable[str]) -> list[str]:
    """As they are kept: in order, and cut where they are longer, since Proxmox sets no limit."""
    return sorted(tag[:TAG_LENGTH] for tag in shown)


def power_of(status: GuestStatus) -> str:
    if status.is_paused:
        return PAUSED
    if status.is_running:
        return RUNNING
    return SUSPENDED if status.lock == "suspended" else STOPPED


def config_values(vm: VirtualMachine, config: GuestConfig) -> dict[str, Any]:
    """The row's values that a VM's configuration decides."""
    nic = config.nics[0] if config.nics else None
    disk = config.boot_disk
    mark = read_mark(config.description)
    counts = mark is not None and (mark.vmid, mark.cluster) == (vm.vmid, vm.cluster.uuid)
    marked_as = mark.vm if mark and counts else None
    return {
        "name": config.name or vm.name,
        "description": without_mark(config.description),
        "tags": tags_of(config.tags),
        "cores": config.cores * config.sockets,
        "memory_mib": config.memory_mib,
        "disk_bytes": (disk.size_bytes if disk else 0) or 0,
        "os_type": os_type_of(config.ostype or ""),
        "network": (nic.bridge if nic else "") or "",
        "mac_address": (nic.mac if nic else "") or "",
        "lock": config.lock or "",
        "agent_enabled": config.agent_enabled,
        "smbios_uuid": uuid.UUID(config.smbios_uuid) if config.smbios_uuid else None,
        # A mark that names another VMID came along with a copy: it says nothing.
        "marked_as": marked_as,
        "is_ours": vm.is_ours or marked_as == vm.uuid,
        "cloud_init": cloud_init_of(config),
        "details_at": timezone.now(),
    }


def all_values(vm: VirtualMachine, config: GuestConfig, status: GuestStatus) -> dict[str, Any]:
    """Of both, read at one time: so what the list will show is known, too."""
    return {
        **config_values(vm, config),
        **status_values(status),
        "listed_cores": status.cores,
        "listed_memory_mib": status.memory_bytes // MIB,
    }


def status_values(status: GuestStatus) -> dict[str, Any]:
    return {
        "power": power_of(status),
        "lock": status.lock or "",
        "is_ha_managed": status.ha_managed,
        "synced_at": timezone.now(),
        "missing_since": None,
    }


def cloud_init_of(config: GuestConfig) -> dict[str, Any]:
    """Cloud-init as the API shows it: the fields as they would be sent, without a secret."""
    shown: dict[str, Any] = {}
    if config.ciuser:
        shown["user"] = config.ciuser
    if config.sshkeys:
        shown["ssh_keys"] = [key for key in config.sshkeys.splitlines() if key.strip()]
    if config.ipconfig0:
        shown["ip_config"] = config.ipconfig0
    if config.nameserver:
        shown["dns"] = config.nameserver.split()
    if config.searchdomain:
        shown["searchdomain"] = config.searchdomain
    if config.raw.get("cipassword"):
        shown["password_set"] = True
    if any(vm_of_user_data(disk.volume) for disk in config.disks):
        shown["user_data_set"] = True
    return shown


def save_snapshots(vm: VirtualMachine, found: Iterable[Found]) -> None:
    """The VM's snapshots as Proxmox has just shown them; what differs is written."""
    shown = {
        snapshot.name: {
            "description": snapshot.description,
            "parent": snapshot.parent or "",
            "taken_at": moment(snapshot.created_at),
            "has_ram": snapshot.has_ram,
        }
        for snapshot in found
        if not snapshot.is_current
    }
    for row in vm.snapshots.all():
        values = shown.pop(row.name, None)
        if values is None:
            row.delete()
        elif any(getattr(row, name) != value for name, value in values.items()):
            Snapshot.objects.filter(pk=row.pk).update(**values)
    Snapshot.objects.bulk_create(
        [Snapshot(vm=vm, name=name, **values) for name, values in shown.items()],
        ignore_conflicts=True,
    )
    VirtualMachine.objects.filter(pk=vm.pk).update(snapshots_at=timezone.now())


def moment(unix_s: int | None) -> datetime.datetime | None:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC) if unix_s else None


def template_values(template: Template, config: GuestConfig) -> dict[str, Any]:
    """The row's values that a template's configuration decides."""
    disks = [disk for disk in config.disks if not disk.is_cdrom and not disk.is_cloudinit]
    storages = sorted({disk.storage for disk in disks if disk.storage})
    shared = set(
        Storage.objects.filter(
            cluster=template.cluster, node=template.node, is_shared=True
        ).values_list("name", flat=True)
    )
    boot = config.boot_disk
    created = meta_created(config)
    return {
        "description": without_mark(config.description),
        "os_type": os_type_of(config.ostype or ""),
        "disk_bytes": (boot.size_bytes if boot else 0) or 0,
        "cores": config.cores * config.sockets,
        "memory_mib": config.memory_mib,
        "storages": storages,
        "is_on_shared_storage": bool(storages) and set(storages) <= shared,
        "has_cloud_init": any(disk.is_cloudinit for disk in config.disks),
        "smbios_uuid": uuid.UUID(config.smbios_uuid) if config.smbios_uuid else None,
        "details_at": timezone.now(),
        **({"created_at": created} if created else {}),
    }


def meta_created(config: GuestConfig) -> datetime.datetime | None:
    """`meta: creation-qemu=…,ctime=1795423114`."""
    words = dict(word.partition("=")[::2] for word in str(config.raw.get("meta", "")).split(","))
    if not words.get("ctime", "").isdigit():
        return None
    return moment(int(words["ctime"]))


def without_size(changed: dict[str, Any]) -> dict[str, Any]:
    """Hardware that changes in other ways than by a size is of none."""
    return {"size": None} | changed if {"cores", "memory_mib"} & changed.keys() else changed


def save(vm: VirtualMachine, values: dict[str, Any]) -> None:
    """Write only what differs. With its power come and go its addresses, which are read soon, and
    what it uses; with its hardware goes its size."""
    differing = {name: value for name, value in values.items() if getattr(vm, name) != value}
    changed = without_size(differing)
    if "power" in changed:
        changed = {"details_at": None} | changed
    if changed.get("power") in {STOPPED, SUSPENDED}:
        VmUsage.objects.filter(vm=vm).delete()
    for name, value in changed.items():
        setattr(vm, name, value)
    if changed:
        vm.save(update_fields=[*changed, "updated_at"])
