"""Thousands of rows by a few statements: one is made as Izvor does, the rest are its copies."""

from __future__ import annotations

import datetime

from django.db import connection
from django.db.models import Model
from django.utils import timezone

from accounts.actors import MEMBER
from accounts.models import ApiToken, Project
from clusters.models import ONLINE, SIMULATOR, Cluster
from operations.models import Operation
from vms.models import RUNNING, Size, VirtualMachine, VmUsage

TASKS = 1_000


def fill(count: int) -> str:
    """A project with so many running VMs, on a cluster of its own that nobody looks at; a token."""
    now = timezone.now()
    project = Project.objects.create(name=f"owner-of-{count}")
    cluster = Cluster.objects.create(
        name=f"of-{count}",
        kind=SIMULATOR,
        state=ONLINE,
        seen_at=now,
        look_due_at=now,
        endpoints=["https://127.0.0.1:1"],
    )
    # The date is no argument: it is when the row was made.
    Cluster.objects.filter(pk=cluster.pk).update(look_due_at=now + datetime.timedelta(days=1))
    first = VirtualMachine.objects.create(
        cluster=cluster,
        project=project,
        vmid=1_000_000,
        node="node1",
        name="vm-0",
        description="One of many.",
        tags=["bench", "web"],
        metadata={"team": "bench", "ticket": "4711"},
        power=RUNNING,
        template_name="ubuntu-22.04",
        size=Size.objects.get(name="small"),
        cores=1,
        memory_mib=1024,
        disk_bytes=20 * 1024**3,
        network="vmbr0",
        mac_address="BC:24:11:00:00:01",
        ip_address="10.0.0.1",
        ipv6_address="2001:db8::1",
        cloud_init={"user": "admin", "ip_config": "ip=dhcp", "ssh_keys": ["ssh-ed25519 AAAA"]},
        synced_at=now,
        details_at=now,
        snapshots_at=now,
    )
    multiply(
        first,
        count - 1,
        uuid="gen_random_uuid()",
        vmid="vmid + n",
        name="'vm-' || n",
        node=f"'node' || n % {max(1, count // 500)}",
    )
    usage = VmUsage.objects.create(vm=first, cpu_percent=12.5, memory_used_bytes=700_000_000)
    columns = [str(f.column) for f in VmUsage._meta.concrete_fields if f.column != "vm_id"]
    run(
        f"INSERT INTO vms_vmusage (vm_id, {', '.join(columns)}) "
        f"SELECT vm.id, {', '.join('u.' + name for name in columns)} FROM vms_vmusage u, "
        f"vms_virtualmachine vm WHERE u.vm_id = {usage.pk} AND vm.cluster_id = {cluster.pk} "
        f"AND vm.id <> {first.pk}"
    )
    fill_tasks(first)
    run("VACUUM ANALYZE")
    return ApiToken.objects.issue(name="bench", project=project, role=MEMBER)[1]


def fill_tasks(vm: VirtualMachine) -> None:
    """Ended ones."""
    now = timezone.now()
    first = Operation.objects.create(
        kind="stop_vm",
        project=vm.project,
        cluster=vm.cluster,
        subject=vm.uuid,
        state="succeeded",
        by="token:bench",
        started_at=now,
        ended_at=now,
    )
    multiply(first, TASKS - 1, uuid="gen_random_uuid()")


def multiply(first: Model, times: int, **other: str) -> None:
    """Copies of a row, `n` is the number of each; `other` is SQL for what differs."""
    columns = [
        str(field.column)
        for field in first._meta.concrete_fields
        if not field.primary_key and not getattr(field, "generated", False)
    ]
    names = ", ".join(columns)
    values = ", ".join(other.get(column, column) for column in columns)
    table = first._meta.db_table
    run(
        f"INSERT INTO {table} ({names}) SELECT {values} FROM {table}, "
        f"generate_series(1, {times}) AS n WHERE id = {first.pk}"
    )


def run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
