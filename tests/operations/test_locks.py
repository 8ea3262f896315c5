"""Locks on VMs: waited for while somebody is at work, and never when nobody is left who would."""

from __future__ import annotations

import pytest

from clusters.connect import connect
from operations.models import Operation
from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from tests.conftest import run_until
from tests.inventory.test_clusters import blinded, use_blind_token
from tests.operations.hostile import let_time_pass, reread, turn_now
from tests.vms.cast import a_new_vm, a_vm, ask_for, vm_for
from vms import actions

pytestmark = pytest.mark.django_db(transaction=True)

LOCKED_BY = [
    ("take_snapshot", "snapshot"),
    ("delete_snapshot", "snapshot-delete"),
    ("rollback_snapshot", "rollback"),
    ("migrate_vm", "migrate"),
]


def slow_down(sim: SimulatorThread, mib_per_s: float, *, storage: str = "ceph") -> None:
    sim.cause(accidents.storage_speed, storage=storage, mib_per_s=mib_per_s)


def a_lost_clone(sim: SimulatorThread, operator) -> tuple[int, Operation]:
    """A full clone that Proxmox works on, and whose answer never came."""
    slow_down(sim, 6.0)
    sim.add_fault("drop_after_effect", method="POST", path="/clone$")
    vm, operation = actions.create_vm(asked=a_new_vm(linked=False), by=operator)
    found = run_until(lambda: reread(operation), lambda o: "unlocked" in o.waiting_for)
    assert found.upid == ""
    return vm.vmid, operation


def kill_all(s: Simulator) -> None:
    for record in list(s.tasks.running()):
        s.tasks.kill(record.upid)


def test_a_clone_whose_answer_was_lost_and_whose_worker_died(cluster, sim, operator, work):
    """Nobody told us of its end, and its lock stays: found by the list of running tasks."""
    vmid, operation = a_lost_clone(sim, operator)
    sim.change(kill_all)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "stuck_lock")
    assert f"qm unlock {vmid}" in ended.error
    assert "Undoing it failed too" in ended.error


def test_a_clone_whose_answer_was_lost_is_waited_for_while_it_runs(cluster, sim, operator, work):
    _, operation = a_lost_clone(sim, operator)
    for _ in range(3):
        let_time_pass(operation, 600)
        found = turn_now(operation)
        assert (found.state, "(clone)" in found.waiting_for) == ("running", True), found.error
    slow_down(sim, 2000.0)
    assert work(operation).state == "succeeded"


def test_other_clones_of_the_template_do_not_hide_that_ours_is_dead(cluster, sim, operator, work):
    _, operation = a_lost_clone(sim, operator)
    sim.change(kill_all)
    _, other = actions.create_vm(asked=a_new_vm("other", linked=False), by=operator)
    run_until(lambda: reread(other), lambda o: o.upid)
    let_time_pass(operation, 600)
    found = turn_now(operation)
    assert reread(other).upid, "it is still cloned"
    assert "qm unlock" in found.error
    slow_down(sim, 2000.0)
    assert work(other).state == "succeeded"


@pytest.mark.parametrize(("kind", "lock"), LOCKED_BY)
def test_whoever_left_the_lock_it_is_not_waited_for(kind, lock, cluster, sim, operator, work):
    vm = vm_for(kind, sim, operator)
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock=lock)
    _, operation = ask_for(kind, vm, operator)
    ended = work(operation, seconds=10)
    assert (ended.state, ended.error_code) == ("failed", "stuck_lock")
    assert f"qm unlock {vm.vmid}" in ended.error


def test_a_migration_that_has_moved_the_vm_and_not_unlocked_it_yet_is_waited_for(
    cluster, sim, operator, work
):
    on_disk = {"linked": False, "storage": "local-lvm"}
    vm = a_vm(sim, operator, running=False, node="pve", **on_disk)
    slow_down(sim, 6.0, storage="local-lvm")
    task = connect(cluster).migrate("pve", vm.vmid, "pve2", with_local_disks=True)
    sim.wait_for(lambda s: s.world.guests[vm.vmid].lock == "migrate")
    operation = actions.delete_vm(vm=vm, by=operator)

    def move(s: Simulator) -> None:
        s.world.guests[vm.vmid].node = "pve2"

    sim.change(move)
    turn_now(operation)
    let_time_pass(operation, 60)
    found = turn_now(operation)
    assert found.waiting_for == f"VM {vm.vmid} to be unlocked (migrate)", found.error
    sim.cause(accidents.kill_task, upid=str(task))
    ended = work(operation)
    assert f"As root on pve2: qm unlock {vm.vmid}" in ended.error


def test_a_deletion_says_what_to_type_too(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock="snapshot-delete")
    ended = work(actions.delete_vm(vm=vm, by=operator), seconds=10)
    assert ended.error_code == "stuck_lock"


def test_who_may_not_see_the_tasks_of_others_calls_no_lock_stuck(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock="snapshot")
    blinded(sim, ("/vms", "VM.Audit+VM.Allocate+VM.PowerMgmt"))
    use_blind_token(cluster)
    operation = actions.delete_vm(vm=vm, by=operator)
    turn_now(operation)
    let_time_pass(operation, 60)
    found = turn_now(operation)
    assert found.error == ""
    assert found.waiting_for == f"VM {vm.vmid} to be unlocked (snapshot)"
