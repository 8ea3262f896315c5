"""Every way out: cancel, failure and deletion at every step, and what must not be left behind."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone

from clusters.connect import connect
from clusters.models import Cluster
from operations import engine, poller, retrying
from operations.ending import CONTINUE
from operations.enqueue import request_cancel, secrets_of
from operations.models import Claim, LaneTicket, Operation
from operations.plans import all_plans, plan_for
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
from tests.vms.cast import a_new_vm, a_vm, ask_for, vm_for
from vms import actions
from vms.asked import CloudInit
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

# Only a template on another node's local storage needs a move.
CREATION = [step.name for step in plan_for("create_vm").steps if step.name != "move"]
STEPS_TO_FAIL = {
    "clone": ("POST", "/clone$"),
    "configure": ("PUT", "/config$"),
    "grow_disk": ("PUT", "/resize$"),
    "start": ("POST", "/status/start$"),
}


def nothing_is_held(vm: VirtualMachine) -> None:
    vm.refresh_from_db()
    assert (vm.doing, vm.task) == ("", None)
    assert not Claim.objects.exists()
    assert not LaneTicket.objects.exists()


@pytest.mark.parametrize("step", CREATION)
def test_a_creation_canceled_in_any_step_leaves_nothing(step, cluster, sim, operator, work):
    before = set(sim.guests())
    vm, operation = ask_for("create_vm", None, operator)
    found = carry_into(operation, step)
    request_cancel(found, by=operator)
    ended = work(operation)
    assert ended.state == "canceled", ended.error
    assert set(sim.guests()) == before
    nothing_is_held(vm)
    assert vm.deleted_at


@pytest.mark.parametrize("step", CREATION)
def test_a_vm_deleted_in_any_step_of_its_creation_is_gone(step, cluster, sim, operator, work):
    before = set(sim.guests())
    vm, operation = ask_for("create_vm", None, operator)
    carry_into(operation, step)
    deletion = actions.delete_vm(vm=VirtualMachine.objects.get(pk=vm.pk), by=operator)
    assert work(deletion).state == "succeeded"
    assert reread(operation).is_ended
    assert set(sim.guests()) == before
    nothing_is_held(vm)


# Steps without a task of Proxmox's.
AT_ONCE = {"configure", "attach_user_data", "ready"}


def carry_into(operation: Operation, step: str) -> Operation:
    """To where the step stands, its call sent where it has one, before its end was noticed."""
    for _ in range(500):
        found = reread(operation)
        assert not found.is_ended, found.error
        if found.step == step and (found.upid or step in AT_ONCE):
            return found
        one_move(operation)
    raise AssertionError(f"{step} was not reached")


def one_move(operation: Operation) -> None:
    """A turn that is over after its first move, as if that had taken long."""
    move = engine.Turn.move

    def move_once(turn: engine.Turn) -> Any:
        made = move(turn)
        return turn.come_back(0) if made is CONTINUE and not turn.operation.is_ended else made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.Turn, "move", move_once)
        turn_now(operation)
    poller.poll_cluster(operation.cluster_id)


@pytest.mark.parametrize("keep", [False, True], ids=["undone", "kept"])
@pytest.mark.parametrize("step", STEPS_TO_FAIL)
def test_a_creation_that_fails_in_any_step(step, keep, cluster, sim, operator, work):
    before = set(sim.guests())
    method, path = STEPS_TO_FAIL[step]
    sim.add_fault("status", method=method, path=path, text="the disk is on fire", count=1)
    vm, operation = actions.create_vm(asked=a_new_vm(keep=keep), by=operator)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "proxmox_rejected")
    assert "on fire" in ended.error
    nothing_is_held(vm)
    left = set(sim.guests()) - before
    assert left == ({vm.vmid} if keep and step != "clone" else set())
    assert (vm.deleted_at is None) == keep


@pytest.mark.parametrize("step", ["clone", "configure", "start", "discard"])
def test_a_foreign_vm_that_takes_the_number_in_any_step_is_never_touched(
    step, cluster, sim, operator, work
):
    """Ours was deleted by hand, and the number given to another VM; then we are to undo."""
    vm, operation = ask_for("create_vm", None, operator)
    if step == "discard":
        sim.cause(accidents.fail_next_task, kind="qmstart", text="no space left on device")
        run_until(lambda: reread(operation), lambda o: o.is_undoing)
    else:
        carry_into(operation, step)
    sim.wait_for(lambda s: not list(s.tasks.running()))
    vm.refresh_from_db()
    sim.change(lambda s: s.world.guests.pop(vm.vmid, None))
    description = "<!-- izvor cluster=11111111-2222-4333-8444-555555555555 " + (
        f"vm={vm.uuid} vmid={vm.vmid} -->"
    )
    number = vm.vmid
    theirs = put_foreign(sim, number, vm.node, description=description)
    ended = work(operation)
    assert ended.is_ended
    assert is_untouched(sim, number, theirs)
    nothing_is_held(vm)


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_clone_under_way_by_somebody_else_under_our_number_is_left_alone(
    when, cluster, sim, operator, work
):
    """Another Izvor with the same range: its clone shows the placeholder, then its own mark."""
    vm, operation = ask_for("create_vm", None, operator)
    number = vm.vmid
    if when == "during":
        request_cancel(operation, by=operator)
        Operation.objects.filter(pk=operation.pk).update(state="running", started_at=Now())
    put_foreign(sim, number, "pve", lock="clone", description=" qmclone temporary file\n")
    # Who has asked for nothing yet takes another number; who undoes waits to see whose it is.
    run_until(lambda: reread(operation), lambda o: o.upid or "unlocked" in o.waiting_for)
    mark = "<!-- izvor cluster=11111111-2222-4333-8444-555555555555 "
    mark += f"vm=11111111-2222-4333-8444-555555555555 vmid={number} -->"
    theirs = put_foreign(sim, number, "pve", description=mark)
    ended = work(operation)
    assert ended.state == ("succeeded" if when == "before" else "canceled"), ended.error
    assert is_untouched(sim, number, theirs)
    vm.refresh_from_db()
    assert (vm.vmid != number) == (when == "before")


def test_a_migration_is_aborted_or_done_but_the_vm_is_where_its_row_says(
    cluster, sim, operator, work
):
    vm = a_vm(sim, operator)
    operation = ask_for("migrate_vm", vm, operator)[1]
    found = run_until(lambda: reread(operation), lambda o: o.upid)
    request_cancel(found, by=operator)
    ended = work(operation)
    assert ended.state in {"canceled", "succeeded"}, ended.error
    vm.refresh_from_db()
    assert sim.guest(vm.vmid).node == vm.node


def test_a_cancel_that_comes_after_the_migration_finds_it_done(cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    operation = ask_for("migrate_vm", vm, operator)[1]
    run_until(lambda: reread(operation), lambda o: o.upid)
    sim.wait_for(lambda s: not list(s.tasks.running()))
    poller.poll_cluster(cluster.pk)
    request_cancel(reread(operation), by=operator)
    assert work(operation).state == "succeeded"
    vm.refresh_from_db()
    assert sim.guest(vm.vmid).node == vm.node


def test_growing_a_disk_for_an_update_cannot_be_canceled():
    plan = plan_for("update_vm")
    for step in plan.steps:
        assert plan.cancel_of(step).value == "not_cancelable", step.name


# --- proxmox is never asked in a transaction ---


@pytest.mark.slow
@pytest.mark.parametrize("kind", [plan.kind for plan in all_plans()])
def test_no_transaction_waits_for_proxmox(kind, cluster, sim, operator, work, monkeypatch):
    vm = vm_for(kind, sim, operator)
    asked_in: list[str] = []
    call = Client._call

    def watched(client: Client, method: str, template: str, *args: Any, **values: Any) -> Any:
        if connection.in_atomic_block:
            asked_in.append(f"{method} {template}")
        return call(client, method, template, *args, **values)

    monkeypatch.setattr(Client, "_call", watched)
    _, operation = ask_for(kind, vm, operator)
    assert work(operation).state == "succeeded"
    assert asked_in == []


# --- our own errors ---


def test_an_operation_whose_vm_row_was_removed_ends(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    VirtualMachine.objects.filter(pk=vm.pk).delete()
    ended = work(operation, seconds=5)
    assert (ended.state, ended.error_code) == ("failed", "vm_gone")
    assert not Claim.objects.exists()


def test_an_operation_of_a_kind_nobody_knows_ends_one_day(cluster, sim, operator):
    """Left by newer code, after a deploy was taken back."""
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    Operation.objects.filter(pk=operation.pk).update(kind="from_the_future")
    assert not turn(operation).is_ended
    let_time_pass(operation, 3600)
    ended = turn_now(operation)
    assert (ended.state, ended.error_code) == ("failed", "internal_error")
    assert not Claim.objects.exists()


def test_an_operation_with_a_step_that_newer_code_has_is_not_begun(cluster, sim, operator, work):
    """This code could do all the steps that it knows, and would leave out the other one."""
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    Operation.objects.filter(pk=operation.pk).update(planned=["start", "from_the_future"])
    sim.forget_calls()
    found = turn(operation)
    assert found.waiting_for == (
        "a worker of the newer version "
        "(This version of Izvor knows no start_vm with step from_the_future.)"
    )
    assert sim.calls == []
    assert found.due_at is not None
    assert found.due_at - timezone.now() < datetime.timedelta(seconds=1)
    Operation.objects.filter(pk=operation.pk).update(planned=operation.planned, due_at=Now())
    assert work(operation).state == "succeeded"


def test_the_api_of_older_code_shows_what_newer_code_has_accepted(cluster, sim, operator, api):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    Operation.objects.filter(pk=operation.pk).update(kind="from_the_future")
    shown = api.get(f"/api/v1/tasks/{operation.uuid}")
    assert (shown.status_code, shown.json()["steps"]) == (200, [])
    refused = api.post(f"/api/v1/tasks/{operation.uuid}/cancel")
    assert (refused.status_code, refused.json()["code"]) == (503, "other_version")


def test_a_crash_after_a_long_silence_is_retried_like_any_other(cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    sim.add_fault("status", path=".*", status=596, text="broken pipe", count=10_000)
    assert turn(operation).silent_since
    let_time_pass(operation, 1800)
    Operation.objects.filter(pk=operation.pk).update(step="from_the_future")
    found = turn_now(operation)
    assert not found.is_ended
    assert "from_the_future" in found.waiting_for


# --- secrets ---


@pytest.mark.parametrize("way", ["succeeds", "fails", "canceled"])
def test_a_secret_is_erased_at_every_end_and_never_shown(way, cluster, sim, operator, work, caplog):
    secret = "correct-horse-battery"
    asked = a_new_vm(cloud_init=CloudInit(user="admin", password=secret))
    _, operation = actions.create_vm(asked=asked, by=operator)
    assert secrets_of(reread(operation)) == {"password": secret}
    if way == "fails":
        sim.add_fault("status", method="PUT", path="/config$", text=f"not a {secret}")
    if way == "canceled":
        request_cancel(operation, by=operator)
    work(operation)
    if way == "fails":
        # Kept for a day, in which it can be retried.
        assert secret not in reread(operation).sealed_params != ""
        Operation.objects.filter(pk=operation.pk).update(ended_at=Now() - retrying.WINDOW)
        retrying.erase_secrets()
    assert reread(operation).sealed_params == ""
    with connection.cursor() as cursor:
        for table in ("operations_operation", "events_event", "vms_virtualmachine"):
            cursor.execute(f"SELECT row_to_json(t)::text FROM {table} t")
            rows = [row[0] for row in cursor.fetchall()]
            if way != "fails":
                assert not any(secret in row for row in rows), table
    if way != "fails":
        assert secret not in caplog.text


# --- locks that nobody will clear, snapshots of others ---


@pytest.mark.parametrize(
    ("kind", "task", "lock"),
    [
        ("take_snapshot", "qmsnapshot", "snapshot"),
        ("delete_snapshot", "qmdelsnapshot", "snapshot-delete"),
        ("rollback_snapshot", "qmrollback", "rollback"),
    ],
)
def test_a_killed_snapshot_says_what_to_type_on_the_node(
    kind, task, lock, cluster, sim, operator, work
):
    vm = vm_for(kind, sim, operator)
    assert vm is not None
    sim.cause(accidents.kill_next_task, kind=task)
    _, operation = ask_for(kind, vm, operator)
    run_until(lambda: reread(operation), lambda o: o.upid)
    sim.wait_for(lambda s: not list(s.tasks.running()))
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock=lock)
    ended = work(operation, seconds=10)
    assert (ended.state, ended.error_code) == ("failed", "stuck_lock")
    assert f"qm unlock {vm.vmid}" in ended.error


def test_somebody_elses_snapshot_of_that_name_is_not_taken_for_ours(cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    operation = ask_for("take_snapshot", vm, operator)[1]
    connect(cluster).take_snapshot(vm.node, vm.vmid, "before", with_ram=False)
    sim.wait_for(lambda s: "before" in s.world.guests[vm.vmid].snapshots)
    sim.wait_for(lambda s: not list(s.tasks.running()))
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "snapshot_exists")


def test_a_backup_of_a_new_vm_does_not_undo_its_creation(cluster, sim, operator, work):
    vm, operation = ask_for("create_vm", None, operator)
    carry_into(operation, "ready")
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock="backup")
    assert work(operation, seconds=10).state == "succeeded"


# --- the poller ---


def poll(cluster: Cluster) -> None:
    """Look once, whoever has just looked."""
    Cluster.objects.filter(pk=cluster.pk).update(poll_lease_until=None)
    poller.poll_cluster(cluster.pk)


def test_a_dead_node_does_not_keep_the_poller_from_the_others(cluster, sim, operator):
    there = a_vm(sim, operator, running=False, node="pve2")
    here = a_vm(sim, operator, running=False, node="pve3")
    operations = [actions.start_vm(vm=vm, by=operator) for vm in (there, here)]
    for operation in operations:
        turn(operation)
    sim.cause(accidents.node_down, node="pve2")
    sim.wait_for(lambda s: not list(s.tasks.running()))
    poll(cluster)
    assert reread(operations[1]).task_exit == "OK"


def test_one_task_that_cannot_be_asked_after_does_not_hide_the_others(cluster, sim, operator):
    vms = [a_vm(sim, operator, running=False, node="pve") for _ in range(2)]
    operations = [actions.start_vm(vm=vm, by=operator) for vm in vms]
    for operation in operations:
        turn(operation)
    sim.wait_for(lambda s: not list(s.tasks.running()))
    sim.add_fault("status", path="/tasks/.*/status$", status=500, text="cannot read its log")
    poll(cluster)
    assert {reread(o).task_exit for o in operations} == {"", "OK"}
