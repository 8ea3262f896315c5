"""A VM as the API shows it, made from columns: the only way, for one VM and for a thousand.

No models are made for it. A page of a thousand VMs with the four rows that belong to each would be
five thousand of them, and most of the time that a list takes.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
from django.db.models import FloatField, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, NullIf

from accounts.prepared import Columns
from accounts.rest import Keys
from clusters.models import ONLINE
from operations.models import Operation
from vms.models import Snapshot, VirtualMachine, disk_gib_of


def text(field: str) -> Combinable:
    return Cast(field, TextField())


def unless_empty(field: str) -> Combinable:
    return NullIf(field, Value(""), output_field=TextField())


def usage(field: str) -> Combinable:
    """A VM that never ran has none."""
    return Coalesce(f"usage__{field}", 0, output_field=FloatField())


# What is shown, and the column or expression that Postgres makes it from: what it does is not done
# in Python for each row. Keys come as texts, since psycopg makes objects of them in Python.
_SHOWN: dict[str, str | Combinable] = {
    "id": text("vmid"),
    "uuid": text("uuid"),
    "cluster": "cluster__name",
    "node": unless_empty("node"),
    "project": "project__name",
    "name": "name",
    "description": "description",
    "tags": "tags",
    "metadata": "metadata",
    "status": "status",
    "template": unless_empty("template_name"),
    "os_type": "os_type",
    "os_template": unless_empty("os_template"),
    "size": "size__name",
    "cores": "cores",
    "memory": "memory_mib",
    "disk_size": "disk_bytes",
    "ip_address": "ip_address",
    "ipv6_address": "ipv6_address",
    "mac_address": unless_empty("mac_address"),
    "network": unless_empty("network"),
    "cloud_init": "cloud_init",
    "cpu_usage": usage("cpu_percent"),
    "memory_used": usage("memory_used_bytes"),
    "disk_read": usage("disk_read_bytes"),
    "disk_write": usage("disk_write_bytes"),
    "net_in": usage("net_in_bytes"),
    "net_out": usage("net_out_bytes"),
    "uptime": usage("uptime_s"),
    "protected": "is_protected",
    "task": text("task"),
    "last_error": unless_empty("last_error"),
    "created_at": "created_at",
    "updated_at": "updated_at",
    "synced_at": "synced_at",
}
# What else goes into it.
_BESIDE = ("pk", "missing_since", "cluster__seen_at", "cluster__is_enabled", "cluster__state")
_PK = len(_SHOWN)
COLUMNS = Columns(lambda: VirtualMachine.objects.values_list(*_SHOWN.values(), *_BESIDE))


def vm_body(vm: VirtualMachine) -> dict[str, Any]:
    """As the row is now, whatever the model in hand says."""
    return _body("id", vm.pk)


def body_of_subject(operation: Operation) -> dict[str, Any]:
    """Of the VM that an operation works on, deleted or not."""
    return _body("uuid", operation.subject)


def bodies_of_subjects(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """The same of each, in their order."""
    found = COLUMNS.where(
        "uuid = ANY(%s)", [[operation.subject for operation in operations]], prepare=True
    )
    bodies = {body["uuid"]: body for body in (body_of(row) for row in found)}
    return [bodies[str(operation.subject)] for operation in operations]


def bodies_of(keys: Keys) -> list[tuple[int, dict[str, Any]]]:
    """Each with its key, in their order."""
    found = COLUMNS.where(
        f"id = ANY(ARRAY({keys.sql})) ORDER BY {_PK + 1}", keys.params, prepare=keys.prepare
    )
    return [(row[_PK], body_of(row)) for row in found]


def _body(key: str, value: int | uuid.UUID | None) -> dict[str, Any]:
    (row,) = COLUMNS.where(f"{key} = %s", [value], prepare=True)
    return body_of(row)


def body_of(row: tuple[Any, ...]) -> dict[str, Any]:
    """From a row of COLUMNS."""
    body = dict(zip(_SHOWN, row, strict=False))
    _, missing_since, cluster_seen_at, cluster_is_enabled, cluster_state = row[len(_SHOWN) :]
    # JSON comes as its text and goes out as it is.
    body["metadata"] = orjson.Fragment(body["metadata"])
    body["cloud_init"] = orjson.Fragment(body["cloud_init"])
    body["disk_size"] = disk_gib_of(body["disk_size"])
    body["cpu_usage"] = round(body["cpu_usage"], 2)
    body["synced_at"] = seen_at(missing_since, body["synced_at"], cluster_seen_at)
    is_stale = missing_since is not None or not cluster_is_enabled
    body["stale"] = is_stale or cluster_state != ONLINE
    return body


def seen_at(
    missing_since: datetime.datetime | None,
    synced_at: datetime.datetime | None,
    cluster_seen_at: datetime.datetime | None,
) -> datetime.datetime | None:
    """When it was last looked at: itself, or in the list (which writes no unchanged row)."""
    if missing_since is not None or synced_at is None:
        return synced_at
    return max(synced_at, cluster_seen_at or synced_at)


def snapshot_body(snapshot: Snapshot, vmid: int) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "description": snapshot.description,
        "vmid": str(vmid),
        "parent": snapshot.parent or None,
        "created_at": snapshot.taken_at,
        "vm_state": snapshot.has_ram,
    }
