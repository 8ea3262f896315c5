"""What a VM's storages allow, and which privilege each config option needs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from . import drives, volumes
from .errors import forbidden
from .simulator import Simulator
from .vmconfig import CLOUDINIT_KEYS, Changes
from .world import Config, Guest

if TYPE_CHECKING:
    from .routing import Call

_CPU = "cores sockets cpu vcpus cpulimit cpuunits numa affinity"
_HARDWARE = "acpi hotplug kvm machine scsihw smbios1 tablet vga watchdog audio0 rng0"
_OPTION_RIGHTS: dict[str, str] = {
    **dict.fromkeys(_CPU.split(), "VM.Config.CPU"),
    **dict.fromkeys(["memory", "balloon", "shares"], "VM.Config.Memory"),
    **dict.fromkeys(_HARDWARE.split(), "VM.Config.HWType"),
    **dict.fromkeys(
        ("ciuser", "cipassword", "ciupgrade", "citype", "sshkeys"), "VM.Config.Cloudinit"
    ),
    **dict.fromkeys(("nameserver", "searchdomain"), "VM.Config.Network"),
    "cicustom": "VM.Config.Network",
    "vmstate": "VM.PowerMgmt",
}


def right_for(key: str, value: str = "") -> str:
    """The privilege that setting or deleting an option needs."""
    if drives.DRIVE.match(key) or drives.UNUSED.match(key):
        is_cdrom = "media=cdrom" in value or value.split(",")[0] in ("none", "cdrom")
        return "VM.Config.CDROM" if is_cdrom else "VM.Config.Disk"
    if drives.NET.match(key) or re.match(r"ipconfig\d", key):
        return "VM.Config.Network"
    if re.match(r"(serial|parallel|usb|hostpci|numa|virtiofs)\d", key):
        return "VM.Config.HWType"
    return _OPTION_RIGHTS.get(key, "VM.Config.Options")


def require_option_rights(call: Call, changes: Changes) -> None:
    """403 for the first option whose privilege is missing."""
    path = f"/vms/{call.vmid}"
    for key in (*changes.values, *changes.delete):
        value = str(changes.values.get(key, ""))
        if key in CLOUDINIT_KEYS and call.may(path, "VM.Config.Cloudinit"):
            continue
        privilege = right_for(key, value)
        if not call.may(path, privilege):
            raise forbidden(f"{path}, {privilege}")
    require_resource_rights(call, changes.values)


def require_resource_rights(call: Call, values: Config) -> None:
    """403 unless the caller may use the storages and bridges that these options name."""
    for key, value in values.items():
        if drives.DRIVE.match(key):
            _require_storage(call, drives.parse_drive(key, str(value)))
        elif drives.NET.match(key) and not call.sim.is_old:
            require_bridge(call, str(value))


def _require_storage(call: Call, drive: drives.Drive) -> None:
    if not drive.is_volume:
        return
    path = f"/storage/{drive.storage}"
    is_new = drives.new_disk_bytes(drive.file) is not None or drive.file.endswith(":cloudinit")
    if is_new or "import-from" in drive.options:
        call.require(path, "Datastore.AllocateSpace")
    else:
        call.require(path, "Datastore.AllocateSpace", "Datastore.Audit", any_of=True)


def require_bridge(call: Call, value: str) -> None:
    """Since version 8 a bridge needs SDN.Use."""
    bridge = drives.parse_net(value).options.get("bridge")
    if bridge:
        call.require(f"/sdn/zones/localnetwork/{bridge}", "SDN.Use")


def lookup(sim: Simulator, guest: Guest, feature: str, snapname: str | None) -> dict[str, Any]:
    """Whether every disk's storage can do it, and on which nodes all disks are there."""
    config = guest.snapshots[snapname].config if snapname in guest.snapshots else guest.config
    has_it = True
    nodes = set(sim.world.nodes)
    for drive in drives.disks_of(config):
        storage = sim.world.storages.get(drive.storage)
        volume = sim.world.find_volume(drive.file, guest.node)
        if storage is None or volume is None:
            continue
        if feature == "snapshot":
            has_it &= volumes.can_snapshot(storage, volume.format)
        elif feature == "clone":
            has_it &= volumes.can_link(storage, drive.file, from_snapshot=snapname is not None)
        if not storage.shared:
            nodes &= {guest.node}
        if storage.nodes is not None:
            nodes &= set(storage.nodes)
    return {"hasFeature": int(has_it), "nodes": sorted(nodes)}
