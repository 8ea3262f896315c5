"""VMs: the cluster's list against our rows, as sets.

    in both, different   changed outside: the row follows, and an event says so
    only on the cluster  a VM that nobody made through us: a row without a project
    only in our rows     marked as missing, not dropped: what comes back is itself again

The list lags up to 10 s behind (only `lock` and `tags` are current), so it counts for a VM only if
it was asked for well after the VM's last operation; and a node silent for minutes strips its guests
of their names and sizes, so what is unknown never overwrites what was known.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Q

from accounts.prepared import UpdateEach
from accounts.sql import execute
from clusters.models import Cluster
from events.models import Event, new_event, record_events
from proxmox.results import GuestUsage, Resources
from templates_app.models import Template
from vms.models import MIB, PAUSED, RUNNING, STOPPED, SUSPENDED, UNKNOWN, VirtualMachine
from vms.observe import tags_of, without_size
from vms.refresh import note_missing

COMPARED = (
    "node",
    "name",
    "power",
    "lock",
    "tags",
    "cores",
    "memory_mib",
    "listed_cores",
    "listed_memory_mib",
    "disk_bytes",
    "is_ha_managed",
    "missing_since",
)
# Changes that are worth an event: what a person did outside. Power changes by itself, too.
DRIFT = ("node", "name", "cores", "memory_mib", "disk_bytes", "tags")
USAGE = (
    "cpu_percent",
    "memory_used_bytes",
    "disk_read_bytes",
    "disk_write_bytes",
    "net_in_bytes",
    "net_out_bytes",
    "uptime_s",
)
_UPDATE = UpdateEach(VirtualMachine)


class Known(NamedTuple):
    """What it takes to compare ten thousand rows; who differs is read again, as a model."""

    # As in COMPARED.
    node: str
    name: str
    power: str
    lock: str
    tags: list[str]
    cores: int
    memory_mib: int
    listed_cores: int
    listed_memory_mib: int
    disk_bytes: int
    is_ha_managed: bool
    missing_since: datetime.datetime | None
    # … and beside it.
    pk: int
    vmid: int
    doing: str
    settled_at: datetime.datetime | None


def sync_guests(cluster: Cluster, resources: Resources, began: datetime.datetime) -> None:
    listed = {guest.vmid: guest for guest in resources.guests}
    living = VirtualMachine.objects.filter(cluster=cluster, deleted_at=None)
    rows = {vm.vmid: vm for vm in map(Known._make, living.values_list(*Known._fields))}
    machines = {vmid: guest for vmid, guest in listed.items() if not guest.is_template}
    update_known(rows, machines, began)
    # One that was deleted or renumbered just now lingers in the list: it is nobody's find.
    left = set(
        VirtualMachine.objects.filter(
            cluster=cluster, deleted_at__isnull=False, settled_at__gt=began
        ).values_list("vmid", flat=True)
    )
    found = [guest for vmid, guest in machines.items() if vmid not in rows and vmid not in left]
    add_found(cluster, found, began)
    vanished = [
        vm.pk
        for vmid, vm in rows.items()
        if vmid not in machines and vm.missing_since is None and counts_for(vm, began)
    ]
    mark_missing(vanished, began)
    write_usage(cluster, machines)


def are_known(cluster: Cluster, began: datetime.datetime) -> bool:
    """Are there any that a list without them would be believed to be gone?"""
    settled = Q(settled_at=None) | Q(settled_at__lte=began)
    machines = VirtualMachine.objects.filter(
        settled, cluster=cluster, deleted_at=None, missing_since=None, doing="", has_failed=False
    )
    return machines.exists() or Template.objects.living().filter(settled, cluster=cluster).exists()


def counts_for(vm: VirtualMachine | Known, began: datetime.datetime) -> bool:
    """May a list asked for at `began` be believed about this VM?"""
    return not vm.doing and (vm.settled_at is None or began >= vm.settled_at)


def update_known(
    rows: dict[int, Known], machines: dict[int, GuestUsage], began: datetime.datetime
) -> None:
    differing = [
        vm.pk
        for vmid, vm in rows.items()
        if vmid in machines and counts_for(vm, began) and differs(vm, machines[vmid])
    ]
    if not differing:
        return
    with transaction.atomic():
        # Read again and held: what an operation has written meanwhile is newer than the list.
        held = VirtualMachine.objects.select_for_update().filter(pk__in=differing, deleted_at=None)
        changed = [vm for vm in held if vm.vmid in machines and counts_for(vm, began)]
        drifts = [drift_of(vm, machines[vm.vmid]) for vm in changed]
        events = [follow(vm, drift, began) for vm, drift in zip(changed, drifts, strict=True)]
        record_events([event for event in events if event is not None])
        columns = {name for drift in drifts for name in drift}
        _UPDATE(changed, [*columns, "updated_at", "synced_at"])


def differs(vm: Known, guest: GuestUsage) -> bool:
    """As `drift_of`, for many."""
    if guest.status == UNKNOWN:
        return vm.power != UNKNOWN or vm.missing_since is not None
    return vm[: len(COMPARED)] != listed_values(vm, guest)


def drift_of(vm: VirtualMachine, guest: GuestUsage) -> dict[str, Any]:
    """Where the list says otherwise than the row."""
    values = values_of(vm, guest)
    drift = {name: value for name, value in values.items() if getattr(vm, name) != value}
    return without_size(drift)


def follow(vm: VirtualMachine, drift: dict[str, Any], began: datetime.datetime) -> Event | None:
    """The row as the list has it, unsaved, and so is the event: what a person changed outside."""
    seen = {name: [getattr(vm, name), drift[name]] for name in DRIFT if name in drift}
    for name, value in drift.items():
        setattr(vm, name, value)
    was_known = vm.synced_at is not None
    vm.updated_at = vm.synced_at = began
    if not seen or not was_known:
        return None
    return new_event(
        "vm.changed_outside",
        by="proxmox",
        project_id=vm.project_id,
        subject=vm.uuid,
        label=str(vm),
        changes=seen,
    )


def values_of(vm: VirtualMachine, guest: GuestUsage) -> dict[str, Any]:
    """The row's values that the list decides; what it does not know stays."""
    if guest.status == UNKNOWN:
        return {"power": UNKNOWN, "missing_since": None}
    return dict(zip(COMPARED, listed_values(vm, guest), strict=True))


def listed_values(vm: VirtualMachine | Known, guest: GuestUsage) -> tuple[Any, ...]:
    """In the order of COMPARED.

    Cores and memory count when the list has changed: as long as it shows what it showed before, a
    VM that says otherwise waits for its next start with what it was given.
    """
    cores = guest.cores or vm.listed_cores
    memory_mib = guest.memory_bytes // MIB or vm.listed_memory_mib
    return (
        guest.node,
        guest.name or vm.name,
        power_in_list(vm, guest),
        guest.lock or "",
        tags_of(guest.tags),
        vm.cores if cores == vm.listed_cores else cores,
        vm.memory_mib if memory_mib == vm.listed_memory_mib else memory_mib,
        cores,
        memory_mib,
        guest.disk_bytes or vm.disk_bytes,
        guest.ha_state is not None,
        None,
    )


def power_in_list(vm: VirtualMachine | Known, guest: GuestUsage) -> str:
    """The list says "running" of a paused VM too; only reading the VM itself tells."""
    if guest.status == RUNNING:
        return PAUSED if vm.power == PAUSED else RUNNING
    if guest.status == PAUSED:
        return PAUSED
    return SUSPENDED if guest.lock == "suspended" else STOPPED


def add_found(cluster: Cluster, found: list[GuestUsage], began: datetime.datetime) -> None:
    """VMs that nobody made through us belong to nobody until an operator gives them away."""
    new = []
    for guest in found:
        if guest.status == UNKNOWN or guest.lock in {"clone", "create"}:
            continue  # not there yet: the next look shows it with its name
        vm = VirtualMachine(
            cluster=cluster, vmid=guest.vmid, created_at=began, updated_at=began, synced_at=began
        )
        for name, value in values_of(vm, guest).items():
            setattr(vm, name, value)
        new.append(vm)
    VirtualMachine.objects.bulk_create(new, ignore_conflicts=True, batch_size=500)


def mark_missing(vanished: list[int], began: datetime.datetime) -> None:
    for vm in VirtualMachine.objects.filter(pk__in=vanished) if vanished else ():
        if counts_for(vm, began) and vm.missing_since is None:
            note_missing(vm, began)


def write_usage(cluster: Cluster, machines: dict[int, GuestUsage]) -> None:
    """Usage of the VMs that run or have just stopped; of the others it stays at nothing.

    Postgres finds the VMs and compares: ten thousand rows go there once, in one statement, and none
    come back.
    """
    rows = [
        (
            vmid,
            100 * guest.cpu_fraction,
            guest.memory_used_bytes,
            guest.disk_read_bytes,
            guest.disk_write_bytes,
            guest.net_in_bytes,
            guest.net_out_bytes,
            guest.uptime_s,
        )
        for vmid, guest in machines.items()
    ]
    if not rows:
        return
    columns = (array_of(column) for column in zip(*rows, strict=True))
    execute(_WRITE_USAGE, [*columns, cluster.pk])


def array_of(numbers: Iterable[float]) -> str:
    """As Postgres reads an array. psycopg searches each member for what would have to be quoted,
    which took it longer than Postgres took to find all VMs and compare their usage."""
    return f"{{{','.join(map(repr, numbers))}}}"


def _list(pattern: str) -> str:
    return ", ".join(pattern.format(name) for name in USAGE)


# Of names that stand above, and of nothing else.
_WRITE_USAGE = f"""
INSERT INTO vms_vmusage (vm_id, {_list("{}")})
SELECT vm.id, {_list("seen.{}")}
FROM unnest(
    %s::bigint[], %s::float8[], %s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[],
    %s::bigint[], %s::bigint[]
) AS seen (vmid, {_list("{}")})
JOIN vms_virtualmachine vm
    ON vm.cluster_id = %s AND vm.vmid = seen.vmid AND vm.deleted_at IS NULL
LEFT JOIN vms_vmusage old ON old.vm_id = vm.id
WHERE (seen.uptime_s > 0 OR old.uptime_s > 0)
    AND ({_list("old.{}")}) IS DISTINCT FROM ({_list("seen.{}")})
ON CONFLICT (vm_id) DO UPDATE SET {_list("{0} = excluded.{0}")}
"""  # noqa: S608
