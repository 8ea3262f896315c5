"""A VM as the API shows it, made from columns: the only way, for one VM and for a thousand.

No models are made for it. A page of a thousand VMs with the four rows that belong to each would be
five thousand of them, and most of the time that a list takes.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from django.db.models import FloatField, Func, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, NullIf

from accounts.prepared import Columns
from accounts.rest import Keys
from clusters.models import ONLINE
from operations.models import Operation
from vms.models import Snapshot, VirtualMachine, disk_gib_of


class Json(Func):
    """A JSON object, as its text, with these members."""

    def __init__(self, members: Mapping[str, str | Combinable]) -> None:
        super().__init__(*members.values(), output_field=TextField())
        self.names = tuple(members)

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        parts: list[str] = []
        params: list[Any] = []
        for name, one in zip(self.names, self.get_source_expressions(), strict=True):
            sql, own = compiler.compile(one)
            before = "," if parts else "{"
            parts.append(f"""'{before}"{name}":', coalesce(to_json({sql})::text, 'null')""")
            params += own
        # Sooner than json_build_object, and without its spaces.
        return f"concat({', '.join(parts)}, '}}')", params


def unless_empty(field: str) -> Combinable:
    return NullIf(field, Value(""), output_field=TextField())


def usage(field: str) -> Combinable:
    """A VM that never ran has none."""
    return Coalesce(f"usage__{field}", 0, output_field=FloatField())


def moment(field: str) -> Combinable:
    """As RFC 3339 has it."""
    form = """to_char(%(expressions)s AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    return Func(field, template=form, output_field=TextField())


# What is shown as it stands in the row, or nearly: Postgres writes it down, since reading forty
# values and writing them again takes Python longer than all else in a list.
_WRITTEN = Json(
    {
        "id": Cast("vmid", TextField()),
        "uuid": "uuid",
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
        "ip_address": "ip_address",
        "ipv6_address": "ipv6_address",
        "mac_address": unless_empty("mac_address"),
        "network": unless_empty("network"),
        "cloud_init": "cloud_init",
        "memory_used": usage("memory_used_bytes"),
        "disk_read": usage("disk_read_bytes"),
        "disk_write": usage("disk_write_bytes"),
        "net_in": usage("net_in_bytes"),
        "net_out": usage("net_out_bytes"),
        "uptime": usage("uptime_s"),
        "protected": "is_protected",
        "task": "task",
        "last_error": unless_empty("last_error"),
        "created_at": moment("created_at"),
        "updated_at": moment("updated_at"),
    }
)
COLUMNS = Columns(
    lambda: VirtualMachine.objects.values_list(
        "pk",
        _WRITTEN,
        "disk_bytes",
        usage("cpu_percent"),
        "synced_at",
        "missing_since",
        "cluster__seen_at",
        "cluster__is_enabled",
        "cluster__state",
    )
)


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
    bodies = {body["uuid"]: body for body in (body_of(*row) for row in found)}
    return [bodies[str(operation.subject)] for operation in operations]


def documents_of(keys: Keys) -> list[tuple[int, orjson.Fragment]]:
    """Each with its key, in their order: its body as JSON."""
    found = COLUMNS.where(
        f"id = ANY(ARRAY({keys.sql})) ORDER BY 1", keys.params, prepare=keys.prepare
    )
    return [(row[0], document_of(*row)) for row in found]


def _body(key: str, value: int | uuid.UUID | None) -> dict[str, Any]:
    (row,) = COLUMNS.where(f"{key} = %s", [value], prepare=True)
    return body_of(*row)


def body_of(pk: int, written: str, *values: Any) -> dict[str, Any]:
    """From a row of COLUMNS."""
    return {**orjson.loads(written), **reckoned(*values)}


def document_of(pk: int, written: str, *values: Any) -> orjson.Fragment:
    """The same, as JSON."""
    more = orjson.dumps(reckoned(*values), option=orjson.OPT_UTC_Z)
    return orjson.Fragment(b"".join((written[:-1].encode(), b",", more[1:])))


def reckoned(
    disk_bytes: int,
    cpu_percent: float,
    synced_at: datetime.datetime | None,
    missing_since: datetime.datetime | None,
    cluster_seen_at: datetime.datetime | None,
    cluster_is_enabled: bool,
    cluster_state: str,
) -> dict[str, Any]:
    """What is shown and stands in no column."""
    is_stale = missing_since is not None or not cluster_is_enabled
    return {
        "disk_size": disk_gib_of(disk_bytes),
        "cpu_usage": round(cpu_percent, 2),
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


def snapshot_body(snapshot: Snapshot, vmid: int) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "description": snapshot.description,
        "vmid": str(vmid),
        "parent": snapshot.parent or None,
        "created_at": snapshot.taken_at,
        "vm_state": snapshot.has_ram,
    }
