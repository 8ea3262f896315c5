"""How many queries things take: the same for many as for few. No times are measured here."""

from __future__ import annotations

import dataclasses
import datetime
import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.actors import MEMBER
from accounts.models import Project
from clusters.connect import connect
from clusters.models import Cluster
from events.models import Event
from inventory import cycle, guests, templates
from operations.models import Operation
from proxmox.results import Resources
from tests.conftest import client_with
from vms.models import VirtualMachine, VmUsage

pytestmark = pytest.mark.django_db
API = "/api/v1"
# The token and the note of its use, a page's rows with their count.
OF_A_LIST = 3
# The first on a cluster makes its cursor of VMIDs and its lanes besides.
OF_A_CREATION = 27
OF_A_BATCH = 23
# The templates, the VMs, who was deleted just now, the usage.
OF_THE_SAME_LIST = 4
OF_CHANGES = 6


def many(cluster, project, count: int) -> None:
    made = VirtualMachine.objects.bulk_create(
        VirtualMachine(cluster=cluster, project=project, vmid=5000 + n, name=f"many-{n}")
        for n in range(count)
    )
    VmUsage.objects.bulk_create(VmUsage(vm=vm) for vm in made)


@pytest.mark.parametrize("count", [10, 200])
def test_a_list_takes_the_same_queries_for_many_as_for_few(
    count, cluster, project, django_assert_num_queries
):
    many(cluster, project, count)
    client = client_with(project, MEMBER)
    with django_assert_num_queries(OF_A_LIST):
        body = client.get(f"{API}/vms?limit=5").json()
    assert (len(body["vms"]), body["count"]) == (5, count)
    # The token was noted a moment ago.
    with django_assert_num_queries(OF_A_LIST - 1):
        body = client.get(f"{API}/vms").json()
    assert (len(body["vms"]), body["count"], body["next"]) == (count, count, None)


@pytest.mark.parametrize("count", [10, 200])
def test_tasks_take_the_same_queries_for_many_as_for_few(
    count, cluster, project, django_assert_num_queries
):
    Operation.objects.bulk_create(
        Operation(kind="start_vm", step="start", by="ana", cluster=cluster, project=project)
        for _ in range(count)
    )
    client = client_with(project, MEMBER)
    with django_assert_num_queries(OF_A_LIST):
        body = client.get(f"{API}/tasks?limit=5").json()
    assert (len(body["tasks"]), body["count"]) == (5, count)


def test_many_are_counted_once_in_a_while_and_for_each_by_itself(
    cluster, project, settings, django_assert_num_queries
):
    many(cluster, project, 30)
    settings.COUNTS = {"many": 20, "kept_s": 3600}
    client = client_with(project, MEMBER)
    path = f"{API}/vms?limit=5"
    assert client.get(path).json()["count"] == 30
    cluster.vms.filter(name="many-0").update(deleted_at=timezone.now())
    asked: list[str] = []

    def note(execute: Any, sql: str, *more: Any) -> Any:
        asked.append(sql)
        return execute(sql, *more)

    with connection.execute_wrapper(note), django_assert_num_queries(OF_A_LIST - 1):
        assert client.get(path).json()["count"] == 30
    assert not [sql for sql in asked if "count(*)" in sql]
    # Another filter, another caller, and a time that is over.
    assert client.get(f"{path}&name=many-1").json()["count"] == 1
    other = Project.objects.create(name="other")
    assert client_with(other, MEMBER).get(path).json()["count"] == 0
    settings.COUNTS = {"many": 20, "kept_s": 0}
    assert client.get(path).json()["count"] == 29


def test_a_creation_takes_a_stated_number_of_queries(cluster, project, django_assert_num_queries):
    client = client_with(project, MEMBER)
    client.get(f"{API}/nothing")
    asked = {"name": "web", "template": "ubuntu-22.04", "size": "small"}
    client.post(f"{API}/vms", asked)
    with django_assert_num_queries(OF_A_CREATION):
        assert client.post(f"{API}/vms", asked).status_code == 202


@pytest.mark.parametrize("count", [2, 40])
def test_a_batch_takes_the_same_queries_for_many_as_for_few(
    count, cluster, project, django_assert_num_queries
):
    client = client_with(project, MEMBER)
    client.get(f"{API}/nothing")
    asked = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 256}
    # Makes the cursor of VMIDs, and the lanes of the nodes.
    client.post(f"{API}/vms", {**asked, "count": 40})
    with django_assert_num_queries(OF_A_BATCH):
        answer = client.post(f"{API}/vms", {**asked, "count": count})
    assert len(answer.json()["vms"]) == count


def test_the_same_list_again_writes_no_metadata_and_no_usage(cluster):
    resources = connect(cluster).resources(timeout_s=10)
    began = cycle.database_now()
    sync(cluster, resources, began)
    before, rows = stamps_of_usage(), list(cluster.vms.order_by("pk").values())
    assert before
    later = cycle.database_now()
    with CaptureQueriesContext(connection) as queries:
        sync(cluster, resources, later)
    found = [re.match(r"\s*(?:UPDATE|INSERT INTO|DELETE FROM) \"?(\w+)", q["sql"]) for q in queries]
    # One statement carries all usage there, and finds none that differs.
    assert [match[1] for match in found if match] == ["vms_vmusage"]
    assert stamps_of_usage() == before
    assert list(cluster.vms.order_by("pk").values()) == rows
    assert len(queries) == OF_THE_SAME_LIST


@pytest.mark.parametrize("count", [5, 60])
def test_many_changes_take_the_same_queries_as_few(count, cluster, project):
    resources = connect(cluster).resources(timeout_s=10)
    began = cycle.database_now()
    sync(cluster, resources, began)
    pattern = next(g for g in resources.guests if not g.is_template)
    listed = [
        dataclasses.replace(pattern, vmid=5000 + n, name=f"renamed-{n}") for n in range(count)
    ]
    many(cluster, project, count)
    cluster.vms.filter(name__startswith="many-").update(synced_at=began)
    more = dataclasses.replace(resources, guests=(*resources.guests, *listed))
    with CaptureQueriesContext(connection) as queries:
        sync(cluster, more, cycle.database_now())
    assert cluster.vms.filter(name__startswith="renamed-").count() == count
    assert Event.objects.filter(kind="vm.changed_outside").count() == count
    # The rows held, their events and the rows written, each once, in transactions.
    assert len(queries) == OF_THE_SAME_LIST + OF_CHANGES


def sync(cluster: Cluster, resources: Resources, began: datetime.datetime) -> None:
    templates.sync_templates(cluster, resources, began)
    guests.sync_guests(cluster, resources, began)


def stamps_of_usage() -> list[tuple[object, ...]]:
    """Where each row lies and who wrote it: another if it was written again, even as it was."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT vm_id, ctid::text, xmin::text FROM vms_vmusage ORDER BY vm_id")
        found: list[tuple[object, ...]] = cursor.fetchall()
    return found
