"""Locks on VMs: waited for while somebody is at work, and never when nobody is left who would."""

from __future__ import annotations

import pytest

from operations.models import Operation
from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from pve_simulator.tasks import Job
from pve_simulator.testing import SimulatorThread
from tests.conftest import run_until
from tests.inventory.test_clusters import blinded, use_blind_token
from tests.operations.hostile import is_untouched, let_time_pass, put_foreign, reread, turn_now
from tests.vms.cast import a_new_vm, a_vm, ask_for, vm_for
from vms import actions
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

LOCKED_BY = [
    ("take_snapshot", "snapshot"),
    ("delete_snapshot", "snapshot-delete"),
    ("rollback_snapshot", "rollback"),
    ("migrate_vm", "migrate"),
]


def slow_down(sim: SimulatorThread, mib_per_s: float) -> None:
    sim.cause(accidents.storage_speed, storage="ceph", mib_per_s=mib_per_s)


def a_lost_clone(sim: SimulatorThread, operator) -> tuple[int, Operation]:
    """A full clone that Proxmox works on, and whose answer never came."""
    slow_down(sim, 6.0)
    sim.add_fault("drop_after_effect", method="POST", path="/clone$")
    vm, operation = actions.create_vm(asked=a_new_vm(linked=False), by=operator)
    found = run_until(lambda: reread(operation), lambda o: "unlocked" in o.waiting_for)
    assert found.upid == ""
    return vm.vmid, operation


def at_work_on(sim: SimulatorThread, vm: VirtualMachine, kind: str, *, lock: str) -> None:
    """Somebody's task of this kind that does not end by itself."""

    async def worker(job: Job) -> None:
        await job.sleep(1_000_000)

    def begin(s: Simulator) -> None:
        s.world.guests[vm.vmid].config["lock"] = lock
        s.tasks.start(node=vm.node, kind=kind, id=str(vm.vmid), user="root@pam", worker=worker)

    sim.change(begin)


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
    turn_now(operation)
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
    """It frees the disks on the node that it came from, for as long as that takes."""
    vm = a_vm(sim, operator, running=False, node="pve")
    at_work_on(sim, vm, "qmigrate", lock="migrate")
    operation = actions.delete_vm(vm=vm, by=operator)

    def move(s: Simulator) -> None:
        s.world.guests[vm.vmid].node = "pve2"

    sim.change(move)
    turn_now(operation)
    let_time_pass(operation, 60)
    for _ in range(3):
        found = turn_now(operation)
        assert found.waiting_for == f"VM {vm.vmid} to be unlocked (migrate)", found.error
    sim.change(kill_all)
    ended = work(operation)
    assert f"As root on pve2: qm unlock {vm.vmid}" in ended.error


def test_a_task_that_began_just_after_the_look_is_seen_by_the_next(cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock="snapshot")
    operation = actions.delete_vm(vm=vm, by=operator)
    turn_now(operation)
    let_time_pass(operation, 60)
    assert not turn_now(operation).is_ended, "at the first such look"

    at_work_on(sim, vm, "qmsnapshot", lock="snapshot")
    for _ in range(3):
        assert turn_now(operation).waiting_for == f"VM {vm.vmid} to be unlocked (snapshot)"


@pytest.mark.parametrize("lock", ["create", "clone"])
def test_a_half_made_vm_of_somebody_else_is_not_taken_for_ours(lock, cluster, sim, operator, work):
    """An import on the command line locks without a task, for as long as it takes."""
    vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    theirs = put_foreign(sim, vm.vmid, "pve2", lock=lock)
    ended = work(operation)
    assert ended.state == "succeeded", ended.error
    number = vm.vmid
    vm.refresh_from_db()
    assert vm.vmid != number
    assert is_untouched(sim, number, theirs)


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


@pytest.mark.parametrize(
    ("verb", "path"),
    [("start", "start"), ("stop", "stop"), ("reboot", "reboot"), ("reset", "reset")],
)
def test_nothing_is_asked_of_a_vm_that_somebody_works_on(verb, path, api, cluster, sim, operator):
    """Each time would be a failed task in the node's log."""
    vm = a_vm(sim, operator, running=verb != "start")
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock="backup")
    sim.forget_calls()
    asked = {"action": verb} | ({"force": True} if verb == "stop" else {})
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", asked)
    operation = Operation.objects.get(uuid=answer.json()["task_id"])
    found = run_until(lambda: reread(operation), lambda o: o.waiting_for)
    assert found.waiting_for == f"VM {vm.vmid} to be unlocked (backup)"
    assert sim.calls_to("POST", "/status/") == []
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock=None)
    ended = run_until(lambda: reread(operation), lambda o: o.is_ended)
    assert ended.state == "succeeded"
    assert len(sim.calls_to("POST", f"/status/{path}$")) == 1
