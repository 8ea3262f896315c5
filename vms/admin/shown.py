"""How VMs look in the admin."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ObjectDoesNotExist
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.admin_site import BAD, BUSY, CALM, GOOD, WARN, ago, badge, moment
from operations.admin import shown as tasks
from operations.models import Operation, title_of
from vms import models as m
from vms.admin.sizes import shown_memory
from vms.attention import PATIENT_LOCKS
from vms.charts import in_bytes
from vms.models import VirtualMachine

TONES = {
    m.RUNNING: GOOD,
    m.STOPPED: CALM,
    m.PAUSED: WARN,
    m.SUSPENDED: WARN,
    m.UNKNOWN: WARN,
    m.ERROR: BAD,
}


def with_tasks(vms: list[Any]) -> list[Any]:
    """With `shown_task`, the task that is at work on each; one query, for the busy ones.

    No join or subquery of the list, which would be made for all rows that a later page skips.
    """
    busy = Operation.objects.filter(uuid__in=[vm.task for vm in vms if vm.task])
    found = {task.uuid: task for task in busy.defer(*tasks.UNSHOWN)}
    for vm in vms:
        vm.shown_task = found.get(vm.task)
    return vms


def status_badge(vm: Any, *, is_link: bool = True) -> SafeString:
    """Leads to the task that is at work on it."""
    if vm.deleted_at is not None:
        return badge("deleted", CALM)
    # What Izvor does to it has a word of its own; a snapshot, say, leaves the power as it is.
    text = vm.status if vm.status not in m.POWERS or not vm.doing else f"{vm.status} · busy"
    tone = BUSY if vm.doing else TONES.get(vm.status, BUSY)
    task = vm.shown_task
    if task is not None and is_link:
        href = reverse("admin:operations_operation_change", args=[task.pk])
        return badge(text, tone, href=href, title=task.waiting_for or title_of(task.kind))
    return badge(text, tone)


def hardware(vm: VirtualMachine) -> SafeString:
    return format_html(
        '<span class="iz-nowrap">{} · {} · {} GiB</span>',
        f"{vm.cores} core{'' if vm.cores == 1 else 's'}",
        shown_memory(vm.memory_mib),
        vm.disk_gib,
    )


def note(vm: Any) -> SafeString:
    """The one thing that is most worth knowing about it now."""
    if vm.doing:
        waits = vm.shown_task.waiting_for if vm.shown_task else ""
        return _why(title_of(vm.doing) + (f": waits for {waits}" if waits else ""))
    marks = [words for words, _ in warnings(vm)]
    if vm.is_protected:
        marks.append("protected")
    return _why("; ".join(marks))


def _why(text: str) -> SafeString:
    return format_html('<span class="iz-why" title="{}">{}</span>', text, text)


def warnings(vm: VirtualMachine) -> list[tuple[str, str]]:
    """Sentences and how bad they are."""
    said: list[tuple[str, str]] = []
    if vm.deleted_at is not None:
        return [(f"It was deleted {ago(vm.deleted_at)} ago.", CALM)]
    if vm.missing_since is not None:
        said.append((f"Not on its cluster any more, for {ago(vm.missing_since)}", BAD))
    if not vm.cluster.is_enabled:
        said.append((f"{vm.cluster} is switched off: this is what was seen last", CALM))
    elif not vm.cluster.is_online:
        said.append((f"{vm.cluster} does not answer: this is what was seen last", WARN))
    if vm.lock and (vm.lock not in PATIENT_LOCKS or vm.lock == "backup") and not vm.doing:
        said.append((f"Locked in Proxmox: {vm.lock}", WARN))
    if vm.last_error:
        said.append((vm.last_error, BAD if vm.has_failed else WARN))
    return said


def usage_now(vm: VirtualMachine) -> str:
    """In one line; nothing for one that does not run."""
    try:
        usage = vm.usage
    except ObjectDoesNotExist:
        return ""
    if vm.power != m.RUNNING:
        return ""
    return (
        f"CPU {usage.cpu_percent:.0f} %, {in_bytes(usage.memory_used_bytes)} of memory, "
        f"up for {tasks.lasted_s(usage.uptime_s)}"
    )


def task_row(task: Operation) -> dict[str, Any]:
    return {
        "task": task,
        "badge": tasks.state_badge(task, is_link=True),
        "title": title_of(task.kind),
        "asked": moment(task.created_at),
        "took": tasks.took(task),
    }
