"""Passing trouble is retried, visibly and not for ever."""

from __future__ import annotations

import datetime

import pytest

from operations import engine
from operations.models import Operation
from pve_simulator import accidents
from tests.conftest import run_until
from tests.vms.cast import a_vm
from vms import actions

pytestmark = pytest.mark.django_db(transaction=True)

LOCKED = "can't lock file '/var/lock/qemu-server/lock-110.conf' - got timeout"


def test_a_file_lock_is_retried_until_it_is_free(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    for _ in range(3):
        sim.cause(accidents.fail_next_task, kind="qmstart", text=LOCKED)
    ended = work(actions.start_vm(vm=vm, by=operator))
    assert ended.state == "succeeded"
    assert len(sim.calls_to("POST", f"/qemu/{vm.vmid}/status/start$")) == 4


def test_a_lock_that_stays_fails_the_task_when_the_steps_patience_is_over(
    cluster, sim, operator, work
):
    vm = a_vm(sim, operator, running=False)
    for _ in range(50):
        sim.cause(accidents.fail_next_task, kind="qmstart", text=LOCKED)
    operation = actions.start_vm(vm=vm, by=operator)
    run_until(lambda: Operation.objects.get(pk=operation.pk), lambda o: o.trouble_since)
    long_ago = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    Operation.objects.filter(pk=operation.pk).update(trouble_since=long_ago)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "proxmox_locked")
    assert "got timeout" in ended.error


def test_revoked_credentials_are_waited_for_and_said(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    secret = cluster.sealed_secret
    cluster.secret = "00000000-0000-4000-8000-000000000bad"
    cluster.save()
    engine.take_turn(operation.pk)
    operation.refresh_from_db()
    assert "credentials" in operation.waiting_for
    cluster.sealed_secret = secret
    cluster.save()
    assert work(operation).state == "succeeded"


def test_a_missing_privilege_fails_the_task_and_names_itself(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.add_fault(
        "status",
        method="POST",
        path="/status/start$",
        status=403,
        text=f"Permission check failed (/vms/{vm.vmid}, VM.PowerMgmt)",
    )
    ended = work(actions.start_vm(vm=vm, by=operator))
    assert (ended.state, ended.error_code) == ("failed", "proxmox_forbidden")
    assert "VM.PowerMgmt" in ended.error


def test_an_error_of_our_own_is_shown_and_retried(cluster, sim, operator, work):
    """An unknown step: as a worker with older code meets it in a deploy."""
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    Operation.objects.filter(pk=operation.pk).update(step="from_the_future")
    engine.take_turn(operation.pk)
    operation.refresh_from_db()
    assert not operation.is_ended
    assert "from_the_future" in operation.waiting_for
    Operation.objects.filter(pk=operation.pk).update(step="start")
    assert work(operation).state == "succeeded"


def test_a_guest_that_ignores_its_shutdown_is_stopped_by_force_only(cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    sim.cause(accidents.deaf_guest, vmid=vm.vmid)
    ended = work(actions.shutdown_vm(vm=vm, force=False, timeout_s=5, by=operator))
    assert (ended.state, ended.error_code) == ("failed", "timed_out")
    assert "did not shut down within 5 s" in ended.error
    assert sim.guest(vm.vmid).is_running
    vm.refresh_from_db()
    assert vm.last_error == ended.error
    ended = work(actions.stop_vm(vm=vm, force=False, timeout_s=5, by=operator))
    assert ended.state == "succeeded", ended.error
    assert not sim.guest(vm.vmid).is_running
