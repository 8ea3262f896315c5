"""What the engine does when things go wrong: lost answers, failures, foreign VMs, cancels."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from celery import current_app
from django.db import connection
from django.db.models.functions import Now

from clusters.models import Cluster
from operations import engine, poller, queue, tasks
from operations.claims import Claimed
from operations.enqueue import request_cancel
from operations.lease import Lease, LeaseLost
from operations.models import Lane, Operation
from operations.refusals import Conflict
from operations.tasks import sweep
from proxmox import Client
from pve_simulator import accidents
from tests.conftest import run_until
from tests.vms.cast import a_new_vm, a_vm, ask_for
from vms import actions
from vms.marks import read_mark
from vms.models import GivenUpVmid, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)


# --- lost answers ---


@pytest.mark.parametrize(
    "path", ["/clone$", "/config$", "/resize$", "/status/start$"], ids=lambda path: path.strip("/$")
)
@pytest.mark.parametrize("kind", ["drop_after_effect", "drop_before_effect", "cut"])
def test_a_lost_answer_neither_loses_nor_doubles_a_vm(path, kind, cluster, sim, operator, work):
    before = len(sim.guests())
    method = "PUT" if path in {"/config$", "/resize$"} else "POST"
    sim.add_fault(kind, method=method, path=path)
    vm, operation = ask_for("create_vm", None, operator)
    ended = work(operation)
    assert ended.state == "succeeded", ended.error
    assert len(sim.guests()) == before + 1
    vm.refresh_from_db()
    guest = sim.guest(vm.vmid)
    assert guest.is_running
    assert guest.config["memory"] == "512"


def test_a_lost_answer_to_a_deletion_ends_with_the_vm_gone(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.add_fault("drop_after_effect", method="DELETE", path=rf"/qemu/{vm.vmid}$")
    assert work(actions.delete_vm(vm=vm, by=operator)).state == "succeeded"
    assert sim.guest(vm.vmid) is None


def test_a_reboot_whose_answer_was_lost_is_found_in_the_task_list(cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    sim.add_fault("drop_after_effect", method="POST", path="/status/reboot$")
    assert work(actions.reboot_vm(vm=vm, timeout_s=60, by=operator)).state == "succeeded"
    assert len(sim.calls_to("POST", "/status/reboot$")) == 1


def test_a_reboot_that_never_arrived_is_not_sent_twice(cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    sim.add_fault("drop_before_effect", method="POST", path="/status/reboot$")
    ended = work(actions.reboot_vm(vm=vm, timeout_s=60, by=operator))
    assert (ended.state, ended.error_code) == ("failed", "outcome_unknown")
    assert len(sim.tasks("qmreboot")) == 0


# --- failures ---


def test_a_failed_start_says_the_cause_from_the_log_and_leaves_nothing(
    cluster, sim, operator, work
):
    before = set(sim.guests())
    vm, operation = actions.create_vm(asked=a_new_vm(network="vmbr0"), by=operator)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no space left on device")
    ended = work(operation)
    assert (ended.state, ended.is_undoing) == ("failed", True)
    assert "no space left on device" in ended.error
    assert set(sim.guests()) == before
    assert not VirtualMachine.objects.visible_to(operator).filter(pk=vm.pk).exists()


def test_keep_leaves_the_failed_vm_for_inspection(cluster, sim, operator, work):
    vm, operation = actions.create_vm(asked=a_new_vm(keep=True), by=operator)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no space left on device")
    assert work(operation).state == "failed"
    vm.refresh_from_db()
    assert vm.status == "error"
    assert "no space left" in vm.last_error
    assert sim.guest(vm.vmid) is not None
    assert work(actions.delete_vm(vm=vm, by=operator)).state == "succeeded"
    assert sim.guest(vm.vmid) is None


def test_warnings_are_success_and_are_shown(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.cause(accidents.warn_next_task, kind="qmstart", text="no efidisk configured")
    ended = work(actions.start_vm(vm=vm, by=operator))
    assert ended.state == "succeeded"
    assert any("no efidisk configured" in warning for warning in ended.warnings)


def test_a_lock_is_waited_for(cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    operation = actions.delete_vm(vm=vm, by=operator)
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock="backup")
    waiting = run_until(
        lambda: Operation.objects.get(pk=operation.pk), lambda o: "backup" in o.waiting_for
    )
    assert not waiting.is_ended
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock=None)
    ended = run_until(lambda: Operation.objects.get(pk=operation.pk), lambda o: o.is_ended)
    assert ended.state == "succeeded"


def test_a_node_that_is_down_is_waited_for(cluster, sim, operator):
    vm = a_vm(sim, operator, running=False, node="pve2")
    operation = actions.start_vm(vm=vm, by=operator)
    sim.cause(accidents.node_down, node="pve2")
    waiting = run_until(lambda: Operation.objects.get(pk=operation.pk), lambda o: o.silent_since)
    assert "demo to answer" in waiting.waiting_for
    sim.cause(accidents.node_up, node="pve2")
    ended = run_until(lambda: Operation.objects.get(pk=operation.pk), lambda o: o.is_ended)
    assert ended.state == "succeeded", ended.error


def test_a_vm_deleted_underneath_fails_the_task_with_a_sentence(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    sim.change(lambda s: s.world.guests.pop(vm.vmid))
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "vm_gone")


def test_a_vm_replaced_under_its_number_is_left_alone(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.delete_vm(vm=vm, by=operator)
    other = "uuid=11111111-2222-4333-8444-555555555555"
    sim.change(lambda s: s.world.guests[vm.vmid].config.update(smbios1=other))
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "vm_replaced")
    assert sim.guest(vm.vmid) is not None


def test_a_vm_that_ha_moved_is_found(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=True)
    elsewhere = next(node for node in ("pve", "pve2", "pve3") if node != vm.node)
    sim.cause(accidents.ha_move, vmid=vm.vmid, node=elsewhere)
    ended = work(actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator))
    assert ended.state == "succeeded", ended.error
    vm.refresh_from_db()
    assert (vm.node, vm.power) == (elsewhere, "stopped")


def test_a_killed_clone_says_what_to_type_on_the_node(cluster, sim, operator, work):
    """Proxmox leaves the target locked, and no token can clear a lock."""
    vm, operation = actions.create_vm(asked=a_new_vm(linked=False), by=operator)
    sim.cause(accidents.kill_next_task, kind="qmclone", after_s=0.5)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "stuck_lock")
    assert f"qm unlock {vm.vmid}" in ended.error
    assert sim.guest(vm.vmid).lock == "clone"
    vm.refresh_from_db()
    assert vm.status == "error"


def test_a_killed_start_is_tried_again(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.cause(accidents.kill_next_task, kind="qmstart")
    assert work(actions.start_vm(vm=vm, by=operator)).state == "succeeded"
    assert sim.guest(vm.vmid).is_running


# --- foreign VMs ---


def test_a_foreign_vm_that_takes_the_number_keeps_it(cluster, sim, operator, work):
    vm, operation = ask_for("create_vm", None, operator)
    foreign = vm.vmid
    sim.change(
        lambda s: s.world.guests.update(
            {
                foreign: type(s.world.guests[100])(
                    vmid=foreign, node="pve", config={"name": "theirs"}
                )
            }
        )
    )
    ended = work(operation)
    assert ended.state == "succeeded", ended.error
    vm.refresh_from_db()
    assert vm.vmid != foreign
    assert sim.guest(foreign).config == {"name": "theirs"}
    assert any(str(foreign) in warning for warning in ended.warnings)
    assert GivenUpVmid.objects.filter(vmid=foreign, vm=vm).exists()


def test_a_container_that_takes_the_number_keeps_it(cluster, sim, operator, work, monkeypatch):
    """No list of VMs shows it: Proxmox says only that the number is not free."""
    vm, operation = ask_for("create_vm", None, operator)
    taken, is_free = vm.vmid, Client.vmid_is_free
    monkeypatch.setattr(
        Client,
        "vmid_is_free",
        lambda self, vmid, **more: vmid != taken and is_free(self, vmid, **more),
    )
    ended = work(operation)
    assert ended.state == "succeeded", ended.error
    vm.refresh_from_db()
    assert vm.vmid != taken
    assert GivenUpVmid.objects.filter(vmid=taken, vm=vm).exists()


def test_the_mark_names_the_vm_and_survives_the_creation(cluster, sim, operator):
    vm = a_vm(sim, operator, running=False, description="mine")
    description = sim.guest(vm.vmid).config["description"]
    mark = read_mark(description)
    assert mark is not None
    assert (mark.vm, mark.vmid, mark.cluster) == (vm.uuid, vm.vmid, cluster.uuid)
    assert vm.description == "mine"


# --- canceling ---


def test_a_vm_deleted_while_it_is_created_is_gone_in_the_end(cluster, sim, operator, work):
    before = set(sim.guests())
    vm, creation = ask_for("create_vm", None, operator)
    engine.take_turn(creation.pk)
    vm.refresh_from_db()
    deletion = actions.delete_vm(vm=vm, by=operator)
    assert work(deletion).state == "succeeded"
    assert Operation.objects.get(pk=creation.pk).state == "canceled"
    assert set(sim.guests()) == before


def test_a_second_deletion_while_it_is_created_is_refused(cluster, sim, operator):
    vm, _ = ask_for("create_vm", None, operator)
    actions.delete_vm(vm=vm, by=operator)
    with pytest.raises(Conflict, match="already being deleted"):
        actions.delete_vm(vm=vm, by=operator)


def test_a_stop_cannot_be_canceled(cluster, sim, operator):
    vm = a_vm(sim, operator)
    operation = actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator)
    engine.take_turn(operation.pk)
    with pytest.raises(Conflict) as refused:
        request_cancel(operation, by=operator)
    assert refused.value.code == "not_cancelable"


def test_a_stop_that_has_not_begun_can_be_canceled(cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    operation = actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator)
    request_cancel(operation, by=operator)
    assert work(operation).state == "canceled"
    assert sim.guest(vm.vmid).is_running


# --- claims, leases, lanes ---


def test_two_actions_on_one_vm_conflict_and_the_second_names_the_first(cluster, sim, operator):
    vm = a_vm(sim, operator)
    first = actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator)
    with pytest.raises(Claimed) as refused:
        actions.reboot_vm(vm=vm, timeout_s=60, by=operator)
    assert refused.value.holder == first
    assert str(first.uuid) in refused.value.detail


def test_only_one_worker_has_the_lease(cluster, sim, operator):
    _, operation = ask_for("create_vm", None, operator)
    mine = Lease.take(operation.pk)
    assert mine is not None
    assert Lease.take(operation.pk) is None
    assert engine.take_turn(operation.pk) is None


def test_who_has_lost_the_lease_writes_nothing(cluster, sim, operator):
    _, operation = ask_for("create_vm", None, operator)
    lost = Lease.take(operation.pk)
    Operation.objects.filter(pk=operation.pk).update(
        lease_until=Now() - datetime.timedelta(seconds=1)
    )
    assert Lease.take(operation.pk) is not None
    assert lost is not None
    with pytest.raises(LeaseLost):
        lost.write(progress=50)
    operation.refresh_from_db()
    assert operation.progress == 0


def test_a_lane_lets_in_as_many_as_it_says_and_the_others_say_their_position(
    cluster, sim, operator
):
    made = [actions.create_vm(asked=a_new_vm(f"lane-{n}"), by=operator)[1] for n in range(3)]
    for lane in ("storage:ceph", "node:pve", "node:pve2", "node:pve3"):
        Lane.objects.update_or_create(cluster=cluster, key=lane, defaults={"limit": 1})
    for operation in made:
        engine.take_turn(operation.pk)
    waiting = [Operation.objects.get(pk=o.pk).waiting_for for o in made]
    assert waiting[0].startswith("Proxmox task qmclone")
    assert waiting[1] == "a place in lane storage:ceph (limit 1): position 1" or (
        "lane node:" in waiting[1]
    )
    assert "position 2" in waiting[2] or "lane node:" in waiting[2]
    run_until(
        lambda: [Operation.objects.get(pk=o.pk) for o in made],
        lambda found: all(o.state == "succeeded" for o in found),
    )


@pytest.mark.services
def test_a_lost_hint_is_found_by_the_sweeper(cluster, sim, operator):
    """The broker has lost everything; the row alone brings the operation to a worker."""
    _, operation = ask_for("create_vm", None, operator)
    overdue = Now() - datetime.timedelta(seconds=5)
    for state, priority in (("queued", queue.NOT_BEGUN), ("running", queue.BEGUN)):
        current_app.control.purge()
        Operation.objects.filter(pk=operation.pk).update(due_at=overdue, state=state)
        sweep()
        assert queue.untaken("turns", priority) == 1
    current_app.control.purge()


@pytest.mark.services
def test_operations_of_a_cluster_that_is_switched_off_take_no_turns(cluster, sim, operator):
    _, operation = ask_for("create_vm", None, operator)
    row = Operation.objects.filter(pk=operation.pk)
    Cluster.objects.update(is_enabled=False)
    engine.take_turn(operation.pk)
    assert row.get().waiting_for == "demo to be switched on again"
    current_app.control.purge()
    row.update(due_at=Now() - datetime.timedelta(minutes=5))
    sweep()
    assert queue.untaken("turns", queue.NOT_BEGUN) == 0
    Cluster.objects.update(is_enabled=True)
    sweep()
    assert queue.untaken("turns", queue.NOT_BEGUN) == 1
    current_app.control.purge()


@pytest.mark.services
def test_where_workers_are_behind_the_sweeper_adds_no_hints(cluster, sim, operator, monkeypatch):
    """Each of them would be a look for nothing, and hold up those that wait."""
    monkeypatch.setattr(tasks, "MOST_HINTS", 2)
    current_app.control.purge()
    for _ in range(3):
        ask_for("create_vm", None, operator)
    assert queue.untaken("turns", queue.NOT_BEGUN) == 3
    assert queue.untaken("turns", queue.BEGUN) == 0
    Operation.objects.update(due_at=Now() - datetime.timedelta(seconds=5))
    sweep()
    assert queue.untaken("turns", queue.NOT_BEGUN) == 3
    current_app.control.purge()


@pytest.mark.parametrize(
    ("differs", "is_spared"),
    [
        ({}, True),
        # Somebody has woken it.
        ({"due_at": Now()}, False),
        # Its own look says that the cluster answers again, or tells Proxmox to stop the task.
        ({"silent_since": Now()}, False),
        ({"cancel_requested_at": Now()}, False),
    ],
)
def test_whose_task_is_seen_running_need_not_ask_for_it(differs, is_spared, cluster, sim, operator):
    # A copy takes its time; an allocation is cut off after a minute, which is a second here.
    sim.cause(accidents.storage_speed, storage="ceph", mib_per_s=0.5)
    _, operation = actions.create_vm(asked=a_new_vm(linked=False), by=operator)
    row = Operation.objects.filter(pk=operation.pk)
    run_until(row.get, lambda found: found.upid)
    # Before half of the backstop, and after the longest look of a busy machine.
    soon = {
        "due_at": Now() + datetime.timedelta(seconds=poller.BACKSTOP_S / 2 - 1),
        "silent_since": None,
    }
    row.update(**soon | differs)
    Cluster.objects.update(poll_lease_until=None)
    assert poller.poll_cluster(cluster.pk) is not None
    later = Now() + datetime.timedelta(seconds=poller.BACKSTOP_S / 2)
    assert row.filter(due_at__gt=later).exists() is is_spared


@pytest.mark.services
def test_an_accepted_request_survives_a_broker_that_is_away(cluster, sim, operator, work):
    """The row is the truth: publishing fails, the request is accepted, the work is done."""
    before = Operation.objects.count()
    test_database = connection.settings_dict["NAME"]
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": urlsplit(os.environ["DATABASE_URL"])
        ._replace(path=f"/{test_database}")
        .geturl(),
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    script = """
import django; django.setup()
from accounts.actors import OPERATOR, Actor
from tests.vms.cast import ask_for
ask_for("create_vm", None, Actor(name="token:operator", role=OPERATOR))
"""
    subprocess.run([sys.executable, "-c", script], env=env, check=True, timeout=60)
    operation = Operation.objects.latest("pk")
    assert Operation.objects.count() == before + 1
    assert work(operation).state == "succeeded"
