"""Which VMIDs are given out."""

from __future__ import annotations

import datetime
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.sql import rows
from clusters.models import VmidCursor
from operations.refusals import Conflict
from templates_app.models import Template
from vms import vmids
from vms.models import GivenUpVmid, VirtualMachine

pytestmark = pytest.mark.django_db


def narrow(cluster, lowest: int, highest: int) -> None:
    """A range of its own, where the simulator has nobody."""
    cluster.vmid_min, cluster.vmid_max = lowest, highest
    cluster.save(update_fields=["vmid_min", "vmid_max"])
    VmidCursor.objects.update_or_create(cluster=cluster, defaults={"next_vmid": lowest})


def own(cluster, *numbers: int, **values) -> list[VirtualMachine]:
    return [
        VirtualMachine.objects.create(cluster=cluster, vmid=n, name=f"vm-{n}", **values)
        for n in numbers
    ]


def test_they_go_upward_past_all_that_have_an_owner(cluster):
    narrow(cluster, 5000, 5999)
    vm, *_ = own(cluster, 5001, 5002)
    Template.objects.create(cluster=cluster, vmid=5004, name="t", synced_at=timezone.now())
    later = timezone.now() + datetime.timedelta(hours=1)
    GivenUpVmid.objects.create(cluster=cluster, vmid=5005, vm=vm, until=later)
    assert vmids.next_vmids(cluster, 3) == [5000, 5003, 5006]
    assert vmids.next_vmid(cluster) == 5007


def test_a_window_is_one_look_at_each_table(cluster):
    """Not one for each number: while Postgres has no statistics of a new cluster, each was a look
    at all its VMs, and the first creation on a full one waited for seconds."""
    narrow(cluster, 5000, 5999)
    wanted = {"cluster": cluster.pk, "min": 5000, "max": 5999, "looked_at": 100, "count": 1}
    ((explained,),) = rows(f"EXPLAIN (ANALYZE, FORMAT JSON) {vmids.TAKE}", wanted)
    looks = {
        node["Relation Name"]: node["Actual Loops"]
        for node in nodes_of(explained[0]["Plan"])
        if "Relation Name" in node
    }
    assert looks == {
        "clusters_vmidcursor": 1,
        "vms_virtualmachine": 1,
        "templates_app_template": 1,
        "vms_givenupvmid": 1,
    }


def nodes_of(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for part in plan.get("Plans", []) for node in nodes_of(part))]


def test_what_is_gone_gives_its_number_back(cluster):
    narrow(cluster, 5000, 5999)
    (vm,) = own(cluster, 5000, deleted_at=timezone.now())
    then = timezone.now() - datetime.timedelta(hours=1)
    Template.objects.create(
        cluster=cluster, vmid=5001, name="t", synced_at=then, missing_since=then
    )
    GivenUpVmid.objects.create(cluster=cluster, vmid=5002, vm=vm, until=then)
    assert vmids.next_vmids(cluster, 3) == [5000, 5001, 5002]


def test_the_end_of_the_range_is_followed_by_its_beginning(cluster):
    narrow(cluster, 5000, 5004)
    own(cluster, 5001)
    assert vmids.next_vmids(cluster, 3) == [5000, 5002, 5003]
    assert vmids.next_vmid(cluster) == 5004
    assert vmids.next_vmid(cluster) == 5000


def test_a_cursor_outside_the_range_begins_at_its_start(cluster):
    narrow(cluster, 5000, 5004)
    VmidCursor.objects.filter(cluster=cluster).update(next_vmid=7000)
    assert vmids.next_vmid(cluster) == 5000


def test_a_cluster_without_a_cursor_gets_one(cluster):
    narrow(cluster, 5000, 5004)
    VmidCursor.objects.filter(cluster=cluster).delete()
    assert vmids.next_vmids(cluster, 2) == [5000, 5001]


@pytest.mark.parametrize("count", [1, 3])
def test_a_range_without_room_is_refused(cluster, count):
    """Also where some are left, but not enough."""
    narrow(cluster, 5000, 5004)
    own(cluster, *range(5000, 5005 - (count - 1)))
    with pytest.raises(Conflict, match="5000 to 5004, are used") as refused:
        vmids.next_vmids(cluster, count)
    assert refused.value.code == "no_vmid_left"


def test_many_owners_in_a_row_are_passed_in_few_looks(cluster, django_assert_max_num_queries):
    narrow(cluster, 5000, 9999)
    VirtualMachine.objects.bulk_create(
        VirtualMachine(cluster=cluster, vmid=n, name=f"vm-{n}") for n in range(5000, 7000)
    )
    with django_assert_max_num_queries(6):
        assert vmids.next_vmids(cluster, 7) == [*range(7000, 7007)]


@pytest.mark.django_db(transaction=True)
def test_nobody_gets_the_same_as_another_at_the_same_time(cluster):
    narrow(cluster, 5000, 5999)

    def take(_: int) -> list[int]:
        try:
            return vmids.next_vmids(cluster, 5)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        given = [n for numbers in threads.map(take, range(40)) for n in numbers]
    assert sorted(given) == [*range(5000, 5200)]
