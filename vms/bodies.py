"""A VM as the API shows it, made from columns: the only way, for one VM and for a thousand.

No models are made for it. A page of a thousand VMs with the four rows that belong to each would be
five thousand of them, and most of the time that a list takes.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import orjson
from django.db.models import (
    BooleanField,
    Case,
    DecimalField,
    ExpressionWrapper,
    F,
    Func,
    Q,
    TextField,
    When,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Cast, Coalesce, Greatest

from accounts.prepared import Columns
from accounts.written import Json, moment, unless_empty
from clusters.models import ONLINE
from operations.models import Operation
from vms.models import GIB, Snapshot, VirtualMachine


def usage(field: str) -> Combinable:
    """A VM that never ran has none."""
    return Coalesce(f"usage__{field}", 0)


def rounded(field: str | Combinable, unit: int = 1) -> Combinable:
    """In units, with two decimals where it has some."""
    form = f"trim_scale(round((%(expressions)s)::numeric / {unit}, 2))"
    return Func(field, template=form, output_field=DecimalField())


# When it was last looked at: itself, or in the list (which writes no unchanged row).
SEEN_AT = Case(
    When(
        Q(missing_since=None) & ~Q(synced_at=None), then=Greatest("synced_at", "cluster__seen_at")
    ),
    default=F("synced_at"),
)
IS_STALE = Q(missing_since__isnull=False) | Q(cluster__is_enabled=False) | ~Q(cluster__state=ONLINE)

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
        "disk_size": rounded("disk_bytes", GIB),
        "ip_address": "ip_address",
        "ipv6_address": "ipv6_address",
        "mac_address": unless_empty("mac_address"),
        "network": unless_empty("network"),
        "cloud_init": "cloud_init",
        "cpu_usage": rounded(Coalesce("usage__cpu_percent", 0.0)),
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
        "synced_at": moment(SEEN_AT),
        "stale": ExpressionWrapper(IS_STALE, output_field=BooleanField()),
    }
)
COLUMNS = Columns(lambda: VirtualMachine.objects.values_list("pk", _WRITTEN))


def vm_body(vm: VirtualMachine) -> dict[str, Any]:
    """As the row is now, whatever the model in hand says."""
    ((_, written),) = COLUMNS.where("id = %s", [vm.pk], prepare=True)
    return orjson.loads(written)  # type: ignore[no-any-return]


def body_of_subject(operation: Operation) -> dict[str, Any]:
    """Of the VM that an operation works on, deleted or not."""
    (body,) = bodies_of_subjects([operation])
    return body


def bodies_of_subjects(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """The same of each, in their order; of those written just now as they were read then."""
    left = [one.subject for one in operations if one.subject_body is None]
    bodies = ask_bodies(left)() if left else {}
    return [one.subject_body or bodies[str(one.subject)] for one in operations]


def ask_bodies(uuids: list[uuid.UUID | None]) -> Callable[[], dict[str, dict[str, Any]]]:
    """Of VMs, by their uuids, as `accounts.sql.ask`."""
    answer = COLUMNS.ask("uuid = ANY(%s)", [uuids], prepare=True)
    return lambda: {body["uuid"]: body for body in (orjson.loads(text) for _, text in answer())}


def document_of(row: Sequence[Any]) -> orjson.Fragment:
    """The body as JSON, of a row of `COLUMNS`."""
    return orjson.Fragment(row[1])


def snapshot_body(snapshot: Snapshot, vmid: int) -> dict[str, Any]:
    return {
        "name": snapshot.name,
        "description": snapshot.description,
        "vmid": str(vmid),
        "parent": snapshot.parent or None,
        "created_at": snapshot.taken_at,
        "vm_state": snapshot.has_ram,
    }
