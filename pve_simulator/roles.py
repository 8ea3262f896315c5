"""Proxmox VE's built-in roles and their privileges."""

from __future__ import annotations


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


ROLES: dict[str, frozenset[str]] = {
    "Administrator": _set(
        "Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate "
        "Datastore.Audit Group.Allocate Mapping.Audit Mapping.Modify Mapping.Use "
        "Permissions.Modify Pool.Allocate Pool.Audit Realm.Allocate Realm.AllocateUser "
        "SDN.Allocate SDN.Audit SDN.Use Sys.AccessNetwork Sys.Audit Sys.Console Sys.Incoming "
        "Sys.Modify Sys.PowerMgmt Sys.Syslog User.Modify VM.Allocate VM.Audit VM.Backup "
        "VM.Clone VM.Config.CDROM VM.Config.CPU VM.Config.Cloudinit VM.Config.Disk "
        "VM.Config.HWType VM.Config.Memory VM.Config.Network VM.Config.Options VM.Console "
        "VM.Migrate VM.Monitor VM.PowerMgmt VM.Snapshot VM.Snapshot.Rollback"
    ),
    "NoAccess": frozenset(),
    "PVEAdmin": _set(
        "Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate "
        "Datastore.Audit Group.Allocate Mapping.Audit Mapping.Use Pool.Allocate Pool.Audit "
        "Realm.AllocateUser SDN.Allocate SDN.Audit SDN.Use Sys.Audit Sys.Console Sys.Syslog "
        "User.Modify VM.Allocate VM.Audit VM.Backup VM.Clone VM.Config.CDROM VM.Config.CPU "
        "VM.Config.Cloudinit VM.Config.Disk VM.Config.HWType VM.Config.Memory "
        "VM.Config.Network VM.Config.Options VM.Console VM.Migrate VM.Monitor VM.PowerMgmt "
        "VM.Snapshot VM.Snapshot.Rollback"
    ),
    "PVEAuditor": _set("Datastore.Audit Mapping.Audit Pool.Audit SDN.Audit Sys.Audit VM.Audit"),
    "PVEDatastoreAdmin": _set(
        "Datastore.Allocate Datastore.AllocateSpace Datastore.AllocateTemplate Datastore.Audit"
    ),
    "PVEDatastoreUser": _set("Datastore.AllocateSpace Datastore.Audit"),
    "PVEMappingAdmin": _set("Mapping.Audit Mapping.Modify Mapping.Use"),
    "PVEMappingUser": _set("Mapping.Audit Mapping.Use"),
    "PVEPoolAdmin": _set("Pool.Allocate Pool.Audit"),
    "PVEPoolUser": _set("Pool.Audit"),
    "PVESDNAdmin": _set("SDN.Allocate SDN.Audit SDN.Use"),
    "PVESDNUser": _set("SDN.Audit SDN.Use"),
    "PVESysAdmin": _set("Sys.Audit Sys.Console Sys.Syslog"),
    "PVETemplateUser": _set("VM.Audit VM.Clone"),
    "PVEUserAdmin": _set("Group.Allocate Realm.AllocateUser User.Modify"),
    "PVEVMAdmin": _set(
        "VM.Allocate VM.Audit VM.Backup VM.Clone VM.Config.CDROM VM.Config.CPU "
        "VM.Config.Cloudinit VM.Config.Disk VM.Config.HWType VM.Config.Memory "
        "VM.Config.Network VM.Config.Options VM.Console VM.Migrate VM.Monitor VM.PowerMgmt "
        "VM.Snapshot VM.Snapshot.Rollback"
    ),
    "PVEVMUser": _set(
        "VM.Audit VM.Backup VM.Config.CDROM VM.Config.Cloudinit VM.Console VM.PowerMgmt"
    ),
}

AGENT_PRIVILEGES = _set(
    "VM.GuestAgent.Audit VM.GuestAgent.FileRead VM.GuestAgent.FileSystemMgmt "
    "VM.GuestAgent.FileWrite VM.GuestAgent.Unrestricted"
)
"""What replaces VM.Monitor in version 9."""


def roles_of(version: str) -> dict[str, frozenset[str]]:
    """The built-in roles of a version: "7.4", "8.4" or "9.0"."""
    if not version.startswith("9"):
        return dict(ROLES)
    return {
        name: (held - {"VM.Monitor"}) | AGENT_PRIVILEGES if "VM.Monitor" in held else held
        for name, held in ROLES.items()
    }
