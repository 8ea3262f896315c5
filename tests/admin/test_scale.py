"""How long the server takes over each page with 10,000 VMs and as many tasks: printed, for people.

make test-slow ARGS="-k scale -s"
"""

from __future__ import annotations

import statistics
import time

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from events.models import Event
from tests.admin.shapes import many_tasks, many_vms, page
from vms.models import Size, VirtualMachine

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

VMS = 10_000
PAGES = {
    "home": "/admin/",
    "home, again": "/admin/live/",
    "VMs": "/admin/vms/virtualmachine/",
    "VMs, page 150": "/admin/vms/virtualmachine/?p=150",
    "VMs, by status and tag": "/admin/vms/virtualmachine/?status=running&tag=team-2",
    "VMs, search": "/admin/vms/virtualmachine/?q=many-77",
    "VMs, by memory": "/admin/vms/virtualmachine/?o=-6",
    "tasks": "/admin/operations/operation/",
    "tasks, failed": "/admin/operations/operation/?state=failed",
    "tasks, search": "/admin/operations/operation/?q=many-77",
    "events": "/admin/events/event/",
    "sizes": "/admin/vms/size/",
}


def test_scale(operators_browser, cluster, capsys):
    vms = many_vms(cluster, VMS, size=Size.objects.get(name="small"))
    many_tasks(vms)
    Event.objects.bulk_create(
        [
            Event(kind="task.succeeded", actor="token:many", subject=vm.uuid, subject_label=str(vm))
            for vm in vms
        ],
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    pages = PAGES | {"a VM": page(VirtualMachine, "change", vms[0].pk)}
    lines = [f"{'page':28} {'ms':>6} {'of CPU':>7} {'in SQL':>7} {'queries':>8} {'KiB':>6}"]
    for name, address in pages.items():
        times, cpu, sql, size = [], [], [], 0
        for _ in range(5):
            with CaptureQueriesContext(connection) as queries:
                began, used = time.perf_counter(), time.thread_time()
                answer = operators_browser.get(address)
                times.append(1000 * (time.perf_counter() - began))
                cpu.append(1000 * (time.thread_time() - used))
            assert answer.status_code == 200, address
            size = len(answer.content)
            sql.append(1000 * sum(float(query["time"]) for query in queries))
        lines.append(
            f"{name:28} {statistics.median(times):6.0f} {statistics.median(cpu):7.0f} "
            f"{statistics.median(sql):7.0f} "
            f"{len(queries):8} {size / 1024:6.0f}"
        )
    with capsys.disabled():
        print(f"\n{VMS} VMs and tasks, server time, median of 5:\n" + "\n".join(lines))
