"""Actions and deletions: what is refused at once and why, and what is answered."""

from __future__ import annotations

import pytest

from clusters.models import Cluster
from operations.models import Operation
from pve_simulator import accidents
from tests.api.shapes import problem_of
from tests.vms.cast import a_vm

pytestmark = pytest.mark.django_db

API = "/api/v1"


@pytest.mark.parametrize(
    ("vmid", "action", "why"),
    [
        (100, "start", "running"),
        (102, "stop", "stopped"),
        (102, "shutdown", "stopped"),
        (102, "reboot", "stopped"),
        (105, "reboot", "paused"),
    ],
)
def test_an_action_that_the_state_forbids_is_refused_with_the_reason(
    vmid, action, why, operator_calls, cluster, sim
):
    sim.forget_calls()
    answer = operator_calls.post(f"{API}/vms/{vmid}/actions", {"action": action})
    body = problem_of(answer, 409, "wrong_state")
    assert why in body["detail"]
    assert not Operation.objects.exists()
    assert [call for call in sim.calls if call.method != "GET"] == []


def test_an_action_on_a_busy_vm_names_the_task(operator_calls, cluster):
    first = operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"}).json()
    assert set(first) == {"action", "vmid", "task_id", "task"}
    answer = operator_calls.post(f"{API}/vms/100/actions", {"action": "reboot"})
    assert first["task_id"] in problem_of(answer, 409, "claimed")["detail"]
    vm = operator_calls.get(f"{API}/vms/100").json()
    assert (vm["status"], vm["task"]) == ("stopping", first["task_id"])


def test_a_lock_is_believed_only_as_it_is_now(operator_calls, cluster, sim):
    cluster.vms.filter(vmid=100).update(lock="backup")
    answer = operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"})
    assert answer.status_code == 202, "the lock was gone in Proxmox"

    cluster.vms.filter(vmid=101).update(lock="backup")
    sim.cause(accidents.set_lock, vmid=101, lock="backup")
    try:
        answer = operator_calls.post(f"{API}/vms/101/actions", {"action": "stop"})
        assert "backup" in problem_of(answer, 409, "locked")["detail"]
    finally:
        sim.cause(accidents.set_lock, vmid=101, lock=None)


def test_a_switched_off_cluster_is_left_alone(operator_calls, cluster, sim):
    Cluster.objects.filter(pk=cluster.pk).update(is_enabled=False)
    sim.forget_calls()
    for answer in (
        operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"}),
        operator_calls.delete(f"{API}/vms/100"),
        operator_calls.get(f"{API}/vms/100?refresh=true"),
        operator_calls.get(f"{API}/vms/100/snapshots?refresh=true"),
        operator_calls.get(f"{API}/vms/100/metrics"),
    ):
        problem_of(answer, 503, "cluster_disabled")
    assert operator_calls.get(f"{API}/vms/100").json()["stale"] is True
    assert operator_calls.get(f"{API}/templates").json()["count"] == 0
    assert sim.calls == []


def test_a_vm_protected_by_us_is_not_deleted(operator_calls, cluster, sim):
    cluster.vms.filter(vmid=100).update(is_protected=True)
    problem_of(operator_calls.delete(f"{API}/vms/100"), 409, "protected")
    assert not Operation.objects.exists()
    assert sim.guest(100).is_running


def test_a_vm_protected_in_proxmox_is_not_even_stopped(operator_calls, cluster, sim):
    sim.cause(accidents.set_option, vmid=100, key="protection", value=1)
    sim.forget_calls()
    try:
        problem_of(operator_calls.delete(f"{API}/vms/100"), 409, "protected")
    finally:
        sim.cause(accidents.set_option, vmid=100, key="protection", value=0)
    assert not Operation.objects.exists()
    assert sim.guest(100).is_running
    assert [call for call in sim.calls if call.method != "GET"] == []


def test_a_vm_that_is_another_by_now_is_not_deleted(operator_calls, cluster, sim):
    cluster.vms.filter(vmid=100).update(smbios_uuid="00000000-0000-4000-8000-000000000000")
    problem_of(operator_calls.delete(f"{API}/vms/100"), 409, "vm_replaced")
    assert not Operation.objects.exists()


def test_a_delete_answers_as_the_contract_says(operator_calls, cluster, operator, sim, work):
    vm = a_vm(sim, operator)
    answer = operator_calls.delete(f"{API}/vms/{vm.vmid}")
    body = answer.json()
    assert answer.status_code == 202
    assert set(body) == {"message", "vmid", "task_id", "task"}
    assert answer["Location"] == f"/api/v1/tasks/{body['task_id']}"
    assert "X-Izvor-Await" in answer, "the wait layer takes it out"
    assert work(body["task_id"]).state == "succeeded"
    problem_of(operator_calls.get(f"{API}/vms/{vm.uuid}"), 404, "vm_not_found")
    assert sim.guest(vm.vmid) is None
