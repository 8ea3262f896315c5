"""A VM as the API shows it, made from columns: the only way, for one VM and for a thousand.

No models are made for it. A page of a thousand VMs with the four rows that belong to each would be
five thousand of them, and most of the time that a list takes.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from inspect import signature
from typing import Any

import orjson

from accounts.prepared import Columns
from accounts.rest import Keys
from clusters.models import ONLINE
from operations.models import Operation
from vms.models import Snapshot, VirtualMachine, disk_gib_of

_PATHS = {
    "cluster": "cluster__name",
    "cluster_state": "cluster__state",
    "cluster_is_enabled": "cluster__is_enabled",
    "cluster_seen_at": "cluster__seen_at",
    "project": "project__name",
    "size": "size__name",
    "cpu_percent": "usage__cpu_percent",
    "memory_used_bytes": "usage__memory_used_bytes",
    "disk_read_bytes": "usage__disk_read_bytes",
    "disk_write_bytes": "usage__disk_write_bytes",
    "net_in_bytes": "usage__net_in_bytes",
    "net_out_bytes": "usage__net_out_bytes",
    "uptime_s": "usage__uptime_s",
}


def vm_body(vm: VirtualMachine) -> dict[str, Any]:
    """As the row is now, whatever the model in hand says."""
    return _body("id", vm.pk)


def body_of_subject(operation: Operation) -> dict[str, Any]:
    """Of the VM that an operation works on, deleted or not."""
    return _body("uuid", operation.subject)


def bodies_of_subjects(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """The same of each, in their order."""
    found = COLUMNS.where("uuid = ANY(%s)", [[operation.subject for operation in operations]])
    bodies = {body["uuid"]: body for body in (body_of(*row) for row in found)}
    return [bodies[operation.subject] for operation in operations]


def bodies_of(keys: Keys) -> list[tuple[int, dict[str, Any]]]:
    """Each with its key, in their order."""
    found = COLUMNS.where(f"id = ANY(ARRAY({keys.sql})) ORDER BY 1", keys.params)
    return [(row[0], body_of(*row)) for row in found]


def _body(key: str, value: int | uuid.UUID | None) -> dict[str, Any]:
    ((*columns,),) = COLUMNS.where(f"{key} = %s", [value])
    return body_of(*columns)


def body_of(
    pk: int,
    vmid: int,
    uuid: uuid.UUID,
    cluster: str,
    cluster_state: str,
    cluster_is_enabled: bool,
    cluster_seen_at: datetime.datetime | None,
    node: str,
    project: str | None,
    name: str,
    description: str,
    tags: list[str],
    metadata: str,
    status: str,
    template_name: str,
    os_type: str,
    os_template: str,
    size: str | None,
    cores: int,
    memory_mib: int,
    disk_bytes: int,
    ip_address: str | None,
    ipv6_address: str | None,
    mac_address: str,
    network: str,
    cloud_init: str,
    cpu_percent: float | None,
    memory_used_bytes: int | None,
    disk_read_bytes: int | None,
    disk_write_bytes: int | None,
    net_in_bytes: int | None,
    net_out_bytes: int | None,
    uptime_s: int | None,
    is_protected: bool,
    task: uuid.UUID | None,
    last_error: str,
    created_at: datetime.datetime,
    updated_at: datetime.datetime,
    synced_at: datetime.datetime | None,
    missing_since: datetime.datetime | None,
) -> dict[str, Any]:
    """From these columns, found from the VM's row by their names or `_PATHS`; JSON as its text.

    They are parameters because that is how Python reads forty values soonest.
    """
    is_stale = missing_since is not None or not cluster_is_enabled
    return {
        "id": str(vmid),
        "uuid": uuid,
        "cluster": cluster,
        "node": node or None,
        "project": project,
        "name": name,
        "description": description,
        "tags": tags,
        "metadata": orjson.loads(metadata),
        "status": status,
        "template": template_name or None,
        "os_type": os_type,
        "os_template": os_template or None,
        "size": size,
        "cores": cores,
        "memory": memory_mib,
        "disk_size": disk_gib_of(disk_bytes),
        "ip_address": ip_address,
        "ipv6_address": ipv6_address,
        "mac_address": mac_address or None,
        "network": network or None,
        "cloud_init": orjson.loads(cloud_init),
        # A VM that never ran has no usage.
        "cpu_usage": round(cpu_percent or 0.0, 2),
        "memory_used": memory_used_bytes or 0,
        "disk_read": disk_read_bytes or 0,
        "disk_write": disk_write_bytes or 0,
        "net_in": net_in_bytes or 0,
        "net_out": net_out_bytes or 0,
        "uptime": uptime_s or 0,
        "protected": is_protected,
        "task": task,
        "last_error": last_error or None,
        "created_at": created_at,
        "updated_at": updated_at,
        "synced_at": seen_at(missing_since, synced_at, cluster_seen_at),
        "stale": is_stale or cluster_state != ONLINE,
    }


def seen_at(
    missing_since: datetime.datetime | None,
    synced_at: datetime.datetime | None,
    cluster_seen_at: datetime.datetime | None,
) -> datetime.datetime | None:
    """When it was last looked at: itself, or in the list (which writes no unchanged row)."""
    if missing_since is not None or synced_at is None:
        return synced_at
    return max(synced_at, cluster_seen_at or synced_at)


COLUMNS = Columns(
    lambda: VirtualMachine.objects.values_list(
        *(_PATHS.get(name, name) for name in signature(body_of).parameters)
    )
)


def snapshot_body(snapshot: Snapshot, vmid: int) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "description": snapshot.description,
        "vmid": str(vmid),
        "parent": snapshot.parent or None,
        "created_at": snapshot.taken_at,
        "vm_state": snapshot.has_ram,
    }
