"""A person, or another Izvor, changes the VM in Proxmox while an operation is at work on it."""

from __future__ import annotations

from typing import Any

import pytest

from inventory import cycle
from operations.models import Claim
from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from tests.conftest import run_until
from tests.operations.hostile import is_untouched, let_time_pass, put_foreign, reread, turn_now
from tests.vms.cast import a_new_vm, a_vm, ask_for
from vms import actions
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

# As another Izvor marks a VM of its own.
THEIR_MARK = (
    "<!-- izvor cluster=11111111-2222-4333-8444-555555555555"
    " vm=66666666-7777-4888-8999-000000000000 vmid={} -->"
)


def set_options(sim: Any, vmid: int, **options: Any) -> None:
    sim.change(lambda s: s.world.guests[vmid].config.update(options))


def test_a_vm_that_was_renamed_is_still_itself(cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    operation = actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator)
    set_options(sim, vm.vmid, name="renamed")
    assert work(operation).state == "succeeded"
    assert not sim.guest(vm.vmid).is_running
    sim.change(lambda s: s.cache.refresh())
    VirtualMachine.objects.filter(pk=vm.pk).update(settled_at=None)
    cycle.look_at(cluster)
    vm.refresh_from_db()
    assert vm.name == "renamed"


def test_a_vm_that_was_protected_is_not_deleted(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.delete_vm(vm=vm, by=operator)
    set_options(sim, vm.vmid, protection=1)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "protected")
    assert sim.guest(vm.vmid) is not None
    vm.refresh_from_db()
    assert vm.deleted_at is None
    assert not Claim.objects.exists()


@pytest.mark.parametrize("kind", ["delete_vm", "convert_vm"])
def test_a_vm_that_its_owner_protected_meanwhile_stays(kind, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    _, operation = ask_for(kind, vm, operator)
    VirtualMachine.objects.filter(pk=vm.pk).update(is_protected=True)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "protected")
    vm.refresh_from_db()
    assert vm.why_protected in ended.error
    assert not sim.guest(vm.vmid).is_template


def test_a_vm_that_became_a_template_fails_the_start_in_proxmox_words(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    set_options(sim, vm.vmid, template=1)
    ended = work(operation)
    assert ended.state == "failed"
    assert "template" in ended.error
    assert not sim.guest(vm.vmid).is_running


def test_a_backups_lock_is_waited_for_and_said(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock="backup")
    found = run_until(lambda: reread(operation), lambda o: "backup" in o.waiting_for)
    assert not found.is_ended
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock=None)
    assert work(operation).state == "succeeded"


def test_two_izvors_on_one_cluster_leave_one_anothers_vms_alone(cluster, sim, operator, work):
    """The other has taken the number that ours was to get, and marked its VM as ours would be."""
    vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    number = vm.vmid
    theirs = put_foreign(sim, number, "pve2", description=THEIR_MARK.format(number))
    ended = work(operation)
    assert ended.state == "succeeded", ended.error
    assert is_untouched(sim, number, theirs)
    vm.refresh_from_db()
    assert vm.vmid != number
    work(actions.delete_vm(vm=vm, by=operator))
    assert is_untouched(sim, number, theirs)


def test_a_whole_cluster_that_is_away_for_minutes_is_waited_for(cluster, sim, operator, work):
    vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    others = set(VirtualMachine.objects.exclude(pk=vm.pk).values_list("pk", flat=True))
    run_until(lambda: reread(operation), lambda o: o.upid)
    nodes = ("pve", "pve2", "pve3")

    def all_down(live: Simulator) -> None:
        for node in nodes:
            accidents.node_down(live, node=node)

    sim.change(all_down)
    sim.add_fault("status", path=".*", status=596, text="no route to host", count=10**6)
    found = turn_now(operation)
    assert "to answer" in found.waiting_for
    let_time_pass(operation, 600)
    assert not turn_now(operation).is_ended
    cycle.look_at(cluster)
    cluster.refresh_from_db()
    assert not cluster.is_online
    still = VirtualMachine.objects.filter(pk__in=others, deleted_at=None, missing_since=None)
    assert still.count() == len(others), "nothing is gone because nobody answers"
    sim.clear_faults()
    for node in nodes:
        sim.cause(accidents.node_up, node=node)
    ended = work(operation)
    # The clone's task died with its node: done anew, or said what to type; never two VMs.
    assert ended.state == "succeeded" or ended.error_code == "stuck_lock", ended.error
    assert len([g for g in sim.guests().values() if g.config.get("name") == vm.name]) <= 1
