"""The first page: what runs, what waits, what failed and why, and what needs a look."""

from __future__ import annotations

import datetime
import re
import uuid

import pytest
from django.utils import timezone

from clusters.models import UNREACHABLE, Cluster, Node, Storage
from operations.models import Operation
from templates_app.models import Template
from tests.admin.shapes import many_tasks, many_vms, page, text_of
from tests.vms.cast import a_new_vm
from vms import actions
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

LONG_AGO = timezone.now() - datetime.timedelta(hours=2)


def section(text: str, title: str) -> str:
    return text.split(f"<h2>{title}")[1].split("</section>")[0]


def attention(browser) -> str:
    return section(text_of(browser.get("/admin/")), "Needs attention")


@pytest.fixture
def calm(cluster: Cluster) -> Cluster:
    """All templates are read, as inventory does within seconds."""
    Template.objects.update(details_at=timezone.now())
    return cluster


def test_nothing_needs_a_look_when_all_is_well(browser, calm):
    text = text_of(browser.get("/admin/"))
    assert "Nothing." in section(text, "Needs attention")
    assert "Proxmox VE 8.4" in text
    assert "3 of 3 nodes online, quorate" in text


def test_before_there_is_a_cluster_it_says_how_to_add_one(browser):
    assert "There is no cluster yet." in text_of(browser.get("/admin/"))


def test_what_runs_waits_and_failed_is_told_with_its_reason(browser, calm, operator):
    many_tasks(many_vms(calm, 20))
    _, queued = actions.create_vm(asked=a_new_vm(), by=operator)
    text = text_of(browser.get("/admin/"))
    running, waiting = section(text, "Running"), section(text, "Waiting")
    assert ">2<" in running
    assert ">3<" in waiting
    assert "for a place in lane node:pve" in waiting
    assert "for a worker" in waiting
    assert page(Operation, "change", queued.pk) in waiting
    failed = section(text, "Failed today")
    assert failed.count("no room in the inn") == 4


def test_a_failure_that_was_tried_again_needs_no_look(browser, calm, operator):
    tasks = many_tasks(many_vms(calm, 5))
    failed = next(task for task in tasks if task.state == "failed")
    assert "no room in the inn" in attention(browser)
    again = next(task for task in tasks if task.state == "succeeded")
    Operation.objects.filter(pk=again.pk).update(retry_of=failed)
    assert "no room in the inn" not in attention(browser)
    Operation.objects.filter(pk=again.pk).update(retry_of=None)
    Operation.objects.filter(pk=failed.pk).update(
        ended_at=timezone.now() - 25 * datetime.timedelta(hours=1)
    )
    assert "no room in the inn" not in attention(browser)


def test_a_cluster_or_node_that_is_away_is_told(browser, calm):
    Node.objects.filter(name="pve2").update(status="offline")
    assert "Node pve2 of demo is offline" in attention(browser)
    Cluster.objects.update(is_quorate=False)
    assert "no quorum" in attention(browser)
    Cluster.objects.update(seen_at=LONG_AGO)
    assert "was not looked at for 2 h" in attention(browser)
    Cluster.objects.update(state=UNREACHABLE, error="connection refused")
    text = attention(browser)
    assert "Cluster demo is unreachable" in text
    assert "connection refused" in text
    assert "Node pve2" not in text
    Cluster.objects.update(is_enabled=False)
    assert "Nothing." in attention(browser)


def test_vms_in_trouble_are_told_and_many_of_them_are_counted(browser, calm):
    many_vms(calm, 1, has_failed=True, last_error="the disk is full")
    many_vms(calm, 7, missing_since=LONG_AGO)
    made = many_vms(calm, 1, lock="clone")
    VirtualMachine.objects.filter(pk=made[0].pk).update(updated_at=LONG_AGO)
    many_vms(calm, 1, lock="backup")
    text = attention(browser)
    assert "was not made successfully" in text
    assert "the disk is full" in text
    assert text.count("is not on its cluster any more") == 6
    assert "2 more VMs" in text
    assert "?attention=missing" in text
    assert text.count("is locked in Proxmox") == 1
    listed = text_of(browser.get("/admin/vms/virtualmachine/", {"attention": "missing"}))
    assert re.search(r"\s7\s+virtual machines", listed)
    listed = text_of(browser.get("/admin/vms/virtualmachine/", {"attention": "locked"}))
    assert re.search(r"\s1\s+virtual machine\s", listed)


def test_vms_whose_mark_says_otherwise_are_told(browser, calm):
    many_vms(calm, 1, marked_as=uuid.uuid4())
    many_vms(calm, 1, is_ours=True, marked_as=None)
    (fine,) = many_vms(calm, 1, is_ours=True)
    VirtualMachine.objects.filter(pk=fine.pk).update(marked_as=fine.uuid)
    text = attention(browser)
    assert text.count("bears the mark of a VM that Izvor does not know") == 1
    assert text.count("was made by Izvor and has lost its mark") == 1


def test_a_storage_that_runs_full_is_told_once_where_it_is_shared(browser, calm):
    Storage.objects.filter(name="ceph").update(total_bytes=100, used_bytes=95)
    Storage.objects.filter(name="local", node="pve").update(total_bytes=100, used_bytes=99)
    text = attention(browser)
    assert text.count("Storage ceph of demo is 95 % full") == 1
    assert "Storage local on pve of demo is 99 % full" in text


def test_templates_that_were_never_read_are_told(browser, calm):
    Template.objects.filter(name="debian-12").update(details_at=None)
    assert "Template debian-12 (9001) was never read" in attention(browser)


def test_a_task_that_no_worker_takes_is_told(browser, calm, operator):
    _, task = actions.create_vm(asked=a_new_vm(), by=operator)
    assert "No worker" not in attention(browser)
    Operation.objects.filter(pk=task.pk).update(due_at=LONG_AGO)
    assert "No worker has taken a due task for 2 h" in attention(browser)


def test_how_full_it_is_counts_running_vms_and_shared_storage_once(browser, calm):
    VirtualMachine.objects.update(power="stopped")
    VirtualMachine.objects.filter(vmid=100).update(power="running", cores=5)
    Storage.objects.all().delete()
    for node in ("pve", "pve2"):
        Storage.objects.create(
            cluster=calm,
            node=node,
            name="ceph",
            kind="rbd",
            is_shared=True,
            total_bytes=10 * 1024**4,
            used_bytes=5 * 1024**4,
            synced_at=timezone.now(),
        )
    text = text_of(browser.get("/admin/"))
    assert "5 of 48" in text
    assert "5.0 TiB of 10 TiB" in text


def test_the_page_draws_itself_again(browser, calm):
    body = browser.get("/admin/live/").json()
    assert body["again_in_s"] > 0
    assert "Needs attention" in body["parts"]["home"]
