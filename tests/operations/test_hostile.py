"""Attempts to make the engine lose, double or harm a VM by lost answers and passing time."""

from __future__ import annotations

import time
from typing import Any

import pytest

from operations.enqueue import request_cancel
from operations.lease import Lease
from proxmox import Client
from pve_simulator import accidents
from tests.conftest import run_until
from tests.operations.hostile import (
    is_untouched,
    let_time_pass,
    put_foreign,
    reread,
    turn,
    turn_now,
)
from tests.vms.cast import a_new_vm, a_vm, ask_for
from vms import actions
from vms.asked import CloudInit, VmChanges

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_creation_canceled_after_its_start_leaves_no_vm(cluster, sim, operator, work):
    before = set(sim.guests())
    vm, operation = ask_for("create_vm", None, operator)
    run_until(lambda: sim.guest(vm.vmid), lambda g: g is not None and g.is_running)
    request_cancel(reread(operation), by=operator)
    ended = work(operation)
    assert ended.state == "canceled"
    assert "Undoing" not in ended.error
    assert set(sim.guests()) == before


@pytest.mark.parametrize("kind", ["status", "drop_before_effect"])
def test_a_password_is_set_although_the_first_call_did_nothing(kind, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.add_fault(
        kind,
        method="PUT",
        path="/config$",
        text="can't lock file '/var/lock/qemu-server/lock-110.conf' - got timeout",
    )
    changes = VmChanges(cloud_init=CloudInit(password="correct horse"))
    operation = actions.update_vm(vm=vm, changes=changes, by=operator)
    assert work(operation).state == "succeeded"
    assert sim.guest(vm.vmid).config.get("cipassword")


def test_an_answer_that_is_always_lost_ends_the_task(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.add_fault("drop_before_effect", method="PUT", path="/config$", count=10_000)
    operation = actions.update_vm(vm=vm, changes=VmChanges(cores=2), by=operator)
    assert operation is not None
    run_until(lambda: reread(operation), lambda o: o.attempts >= 2)
    let_time_pass(operation, 2 * 3600)
    assert work(operation).state == "failed"


def test_two_short_silences_hours_apart_do_not_end_a_long_task(cluster, sim, operator, work):
    _, operation = actions.create_vm(asked=a_new_vm(linked=False), by=operator)
    run_until(lambda: reread(operation), lambda o: o.upid)
    sim.add_fault("status", path="/tasks/", status=596, text="broken pipe", count=10_000)
    found = turn_now(operation)
    assert "to answer" in found.waiting_for
    sim.clear_faults()
    found = turn_now(operation)
    assert "to answer" not in found.waiting_for
    let_time_pass(operation, 2 * 3600)
    sim.add_fault("status", path="/tasks/", status=596, text="broken pipe", count=10_000)
    assert not turn_now(operation).is_undoing
    sim.clear_faults()
    assert work(operation).state == "succeeded"


def test_a_foreign_vm_on_a_third_node_keeps_its_number_and_costs_few_calls(
    cluster, sim, operator, work
):
    vm, operation = ask_for("create_vm", None, operator)
    template = sim.guest(9000).node
    third = next(n for n in ("pve", "pve2", "pve3") if n not in (vm.node, template))
    foreign = vm.vmid
    theirs = put_foreign(sim, foreign, third)
    sim.forget_calls()
    ended = work(operation)
    assert ended.state == "succeeded", ended.error
    vm.refresh_from_db()
    assert vm.vmid != foreign
    assert is_untouched(sim, foreign, theirs)
    assert len(sim.calls_to("POST", "/clone$")) <= 2


def test_a_vm_that_ha_took_off_a_dead_node_is_found(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=True, node="pve2")
    sim.cause(accidents.node_down, node="pve2")
    sim.cause(accidents.ha_move, vmid=vm.vmid, node="pve3")
    ended = work(actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator), seconds=15)
    assert ended.state == "succeeded", ended.error


def test_a_refusal_of_what_an_earlier_lost_call_has_done_is_success(
    cluster, sim, operator, work, monkeypatch
):
    """Proxmox took the deletion, and carried it out later than we had waited."""
    vm = a_vm(sim, operator, running=False)
    sim.add_fault("drop_before_effect", method="DELETE", path=rf"/qemu/{vm.vmid}$")
    operation = actions.delete_vm(vm=vm, by=operator)
    run_until(lambda: reread(operation), lambda o: o.submitted_at and not o.upid)
    act = Client._act

    def act_late(client: Client, method: str, *args: Any, **values: Any) -> Any:
        if method == "DELETE":
            sim.change(lambda s: s.world.guests.pop(vm.vmid, None))
        return act(client, method, *args, **values)

    monkeypatch.setattr(Client, "_act", act_late)
    ended = work(operation)
    assert sim.calls_to("DELETE", rf"/qemu/{vm.vmid}$"), "the second call arrived and was refused"
    assert ended.state == "succeeded", ended.error


def test_a_frozen_worker_is_given_its_calls_whole_deadline(cluster, sim, operator, settings):
    """Another one may not ask again while the frozen one could still wake and send."""
    settings.ENGINE = {**settings.ENGINE, "lease_s": 0.3, "call_s": 3.0, "grace_s": 0.2}
    vm = a_vm(sim, operator)
    operation = actions.reset_vm(vm=vm, by=operator)
    frozen = Lease.take(operation.pk)
    assert frozen is not None
    frozen.write(state="running", started_at=frozen.now(), step_started_at=frozen.now())
    frozen.write(submitted_at=frozen.now(), attempts=1, notes={"tasks_before": []})
    began = time.monotonic()
    ended = run_until(lambda: reread(operation), lambda o: o.is_ended)
    assert ended.error_code == "outcome_unknown"
    assert time.monotonic() - began >= 3.0


def test_a_lost_reboot_is_not_mistaken_for_somebody_elses(cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    operation = actions.reboot_vm(vm=vm, timeout_s=60, by=operator)
    sim.add_fault("drop_before_effect", method="POST", path="/status/reboot$")
    turn(operation)

    sim.change(
        lambda s: s.tasks.start(
            node=vm.node,
            kind="qmreboot",
            id=str(vm.vmid),
            user="root@pam",
            worker=lambda job: job.sleep(1),
        )
    )
    assert work(operation).error_code == "outcome_unknown"


def test_a_task_that_vanished_is_looked_for_in_the_state(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="nobody will read this")
    turn(operation)
    sim.change(lambda s: s.world.tasks.clear())
    ended = work(operation, seconds=20)
    assert ended.state == "succeeded", ended.error
    assert sim.guest(vm.vmid).is_running
