"""Reading the admin's pages, and rows by the thousand to fill them with."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import admin
from django.contrib.messages import get_messages
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from clusters.models import Cluster
from operations.models import FAILED, RUNNING, SUCCEEDED, Operation
from vms.models import GIB, VirtualMachine, VmUsage

MODELS: list[Any] = sorted(admin.site._registry, key=lambda model: model._meta.label)


def page(model: Any, name: str, *args: Any) -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{name}", args=args)


def text_of(answer: HttpResponse) -> str:
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def press(browser: Client, verb: str, *rows: Any, **told: Any) -> HttpResponse:
    """Press a button of these rows; with `told`, fill in the page that it asks with, too."""
    body: dict[str, Any] = {"_selected_action": [row.pk for row in rows]}
    if told:
        body |= {"confirmed": "yes", **told}
    answer: Any = browser.post(page(type(rows[0]), "do", verb), body)
    return answer  # type: ignore[no-any-return]


def said(answer: HttpResponse) -> list[str]:
    """The messages that the next page shows; they carry HTML."""
    request: Any = answer.wsgi_request  # type: ignore[attr-defined]
    return [str(message) for message in get_messages(request)]


def many_vms(cluster: Cluster, count: int, **values: Any) -> list[VirtualMachine]:
    """Rows as inventory writes them, spread over nodes, states, tags and templates."""
    first = VirtualMachine.objects.count() + 10_000
    now = timezone.now()
    rows = [
        VirtualMachine(
            **{
                "cluster": cluster,
                "vmid": first + number,
                "node": f"pve{number % 3 + 1}".replace("pve1", "pve"),
                "name": f"many-{number}",
                "power": ("running", "stopped")[number % 2],
                "cores": 2,
                "memory_mib": 2048,
                "disk_bytes": 20 * GIB,
                "tags": [f"team-{number % 20}"],
                "template_name": ("ubuntu-22.04", "debian-12")[number % 2],
                "ip_address": f"10.{number // 65536 % 256}.{number // 256 % 256}.{number % 256}",
                "smbios_uuid": uuid.uuid4(),
                "synced_at": now,
                "details_at": now,
                "snapshots_at": now,
                **values,
            }
        )
        for number in range(count)
    ]
    made = VirtualMachine.objects.bulk_create(rows, batch_size=1000)
    VmUsage.objects.bulk_create([VmUsage(vm=vm, cpu_percent=3) for vm in made], batch_size=1000)
    return made


def many_tasks(vms: list[VirtualMachine]) -> list[Operation]:
    """One a VM: most went well, some failed, run, or wait for a place in a lane."""
    now = timezone.now()
    rows = []
    for number, vm in enumerate(vms):
        state = (SUCCEEDED, SUCCEEDED, SUCCEEDED, FAILED, RUNNING)[number % 5]
        is_ended = state != RUNNING
        step = {"name": "start", "started_at": now.isoformat(), "upids": []}
        rows.append(
            Operation(
                cluster=vm.cluster,
                project=vm.project,
                kind="start_vm",
                subject=vm.uuid,
                subject_label=str(vm),
                by="token:many",
                step="start",
                state=state,
                steps=[step],
                started_at=now,
                ended_at=now if is_ended else None,
                waiting_for="" if is_ended or number % 2 else "a place in lane node:pve",
                error_code="proxmox_conflict" if state == FAILED else "",
                error="no room in the inn" if state == FAILED else "",
            )
        )
    return Operation.objects.bulk_create(rows, batch_size=1000)
