"""Where cluster and database differ: found always, repaired where a rule is on, never guessed."""

from __future__ import annotations

import datetime
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from clusters.connect import connect
from inventory import cycle, details, reconcile
from inventory.tasks import reconcile_all
from operations.models import Operation
from operations.refusals import Conflict
from tests.vms.cast import USER_DATA, a_vm, ask_for, finish
from vms import actions
from vms.marks import read_mark
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)


def look(cluster) -> None:
    """As time brings it: the list, then each VM that was never read."""
    VirtualMachine.objects.update(settled_at=None)
    cycle.look_at(cluster, with_details=False)
    for vm in VirtualMachine.objects.filter(cluster=cluster, deleted_at=None, details_at=None):
        details.read_vm(vm, connect(cluster))


def found(cluster) -> list[tuple[str, int]]:
    return [(f.rule, f.vm.vmid) for f in reconcile.findings(cluster) if f.vm is not None]


@pytest.fixture
def gone(cluster, sim, operator) -> VirtualMachine:
    """Deleted on the cluster by a person."""
    vm = a_vm(sim, operator, running=False)
    sim.change(lambda s: s.world.guests.pop(vm.vmid))
    look(cluster)
    return VirtualMachine.objects.get(pk=vm.pk)


@pytest.fixture
def orphan(cluster, sim, operator) -> VirtualMachine:
    """Ours on the cluster, unknown in a database that was restored from yesterday's backup."""
    vm = a_vm(sim, operator, running=False)
    Operation.objects.filter(subject=vm.uuid).delete()
    VirtualMachine.objects.filter(pk=vm.pk).delete()
    look(cluster)
    return VirtualMachine.objects.get(vmid=vm.vmid, deleted_at=None)


@pytest.fixture
def unmarked(cluster, sim, operator) -> VirtualMachine:
    """Ours, but somebody has rewritten its description."""
    vm = a_vm(sim, operator, running=False)
    sim.change(lambda s: s.world.guests[vm.vmid].config.update(description="my notes"))
    VirtualMachine.objects.filter(pk=vm.pk).update(details_at=None)
    look(cluster)
    return VirtualMachine.objects.get(pk=vm.pk)


def test_a_cluster_as_it_should_be_has_no_findings(cluster, sim, operator):
    a_vm(sim, operator)
    look(cluster)
    assert reconcile.findings(cluster) == []


def test_each_rule_finds_its_own(cluster, gone, orphan, unmarked):
    assert found(cluster) == [("R1", gone.vmid), ("R2", orphan.vmid), ("R3", unmarked.vmid)]


def test_nothing_is_repaired_unless_the_cluster_says_so(cluster, sim, gone, orphan, unmarked):
    before = {vmid: dict(guest.config) for vmid, guest in sim.guests().items()}
    reconcile_all()
    assert not Operation.objects.unfinished().exists()
    assert {vmid: dict(guest.config) for vmid, guest in sim.guests().items()} == before
    assert found(cluster) == [("R1", gone.vmid), ("R2", orphan.vmid), ("R3", unmarked.vmid)]


def test_r1_forgets_what_has_been_gone_for_a_day_and_no_sooner(cluster, gone):
    cluster.repairs = ["R1"]
    cluster.save()
    reconcile_all()
    assert VirtualMachine.objects.get(pk=gone.pk).deleted_at is None
    VirtualMachine.objects.filter(pk=gone.pk).update(
        missing_since=timezone.now() - datetime.timedelta(hours=25)
    )
    reconcile_all()
    assert VirtualMachine.objects.get(pk=gone.pk).deleted_at is not None


def test_r2_adopts_and_marks_it_as_its_own(cluster, sim, orphan, work):
    cluster.repairs = ["R2"]
    cluster.save()
    reconcile_all()
    assert work(Operation.objects.unfinished().get()).state == "succeeded"
    mark = read_mark(sim.guest(orphan.vmid).config["description"])
    assert mark is not None
    assert (mark.vm, mark.vmid) == (orphan.uuid, orphan.vmid)
    orphan.refresh_from_db()
    assert orphan.is_ours
    assert found(cluster) == []


def test_r3_puts_the_mark_back_and_leaves_the_words(cluster, sim, unmarked, work):
    cluster.repairs = ["R3"]
    cluster.save()
    reconcile_all()
    assert work(Operation.objects.unfinished().get()).state == "succeeded"
    description = sim.guest(unmarked.vmid).config["description"]
    assert description.startswith("my notes\n")
    assert (mark := read_mark(description)) is not None
    assert mark.vm == unmarked.uuid
    assert found(cluster) == []


def test_a_copy_made_in_proxmox_of_a_vm_of_ours_is_nobodys(cluster, sim, operator):
    """Its description bears the mark of its source, which names another number."""
    vm, client = a_vm(sim, operator, running=False), connect(cluster)
    client.clone_guest(vm.node, vm.vmid, newid=900, name="by-hand", full=True)
    sim.wait_for(lambda live: 900 in live.world.guests and not live.world.guests[900].lock)
    mark = read_mark(sim.guest(900).config["description"])
    assert mark is not None
    assert mark.vm == vm.uuid
    sim.change(lambda s: s.cache.refresh())
    look(cluster)
    copy = VirtualMachine.objects.get(vmid=900, deleted_at=None)
    details.read_vm(copy, client)
    copy.refresh_from_db()
    assert (copy.is_ours, copy.project, copy.uuid == vm.uuid) == (False, None, False)
    assert found(cluster) == []
    assert VirtualMachine.objects.get(pk=vm.pk).vmid == vm.vmid


def test_an_orphan_can_be_deleted_instead(cluster, sim, orphan, operator, work):
    assert work(actions.delete_vm(vm=orphan, by=operator)).state == "succeeded"
    assert sim.guest(orphan.vmid) is None


def test_what_is_no_orphan_is_not_adopted_and_what_is_there_not_forgotten(cluster, sim, operator):
    vm = a_vm(sim, operator)
    with pytest.raises(Conflict) as refused:
        actions.adopt_vm(vm=vm, project=None, by=operator)
    assert refused.value.code == "not_an_orphan"
    with pytest.raises(Conflict) as refused:
        actions.forget_vm(vm=vm, by=operator)
    assert refused.value.code == "not_missing"


def test_an_iso_whose_vm_is_gone_is_told_and_left(cluster, sim, operator):
    vm = a_vm(sim, operator, running=False, cloud_init=USER_DATA)
    assert reconcile.lost_files(cluster) == {}
    sim.change(lambda s: s.world.guests.pop(vm.vmid))
    look(cluster)
    actions.forget_vm(vm=VirtualMachine.objects.get(pk=vm.pk), by=operator)
    ((volume, why),) = reconcile.lost_files(cluster).items()
    assert (str(vm.uuid) in volume, why) == (True, "is of a VM that is gone")


def test_an_image_that_could_not_be_removed_is_told_once_its_task_has_ended(cluster, sim, operator):
    sim.add_fault("status", method="DELETE", path=r"/content/", status=500, text="busy", count=9)
    _, operation = ask_for("build_template", None, operator)
    assert reconcile.lost_files(cluster) == {}
    assert finish(operation).warnings
    ((volume, why),) = reconcile.lost_files(cluster).items()
    assert ":import/izvor-" in volume
    assert why == "was used and stayed"


def test_the_command_lists_and_repairs(cluster, sim, gone, unmarked, work):
    said = StringIO()
    call_command("reconcile", stdout=said)
    assert "demo R1" in said.getvalue()
    assert "demo R3" in said.getvalue()
    assert not Operation.objects.unfinished().exists()
    call_command("reconcile", "--repair", "R3", stdout=said)
    finish(Operation.objects.unfinished().get())
    assert found(cluster) == [("R1", gone.vmid)]
