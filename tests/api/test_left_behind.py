"""What a creation that failed leaves, and how a person gets rid of it."""

from __future__ import annotations

import pytest

from clusters.models import Cluster
from operations import engine
from operations.models import Operation
from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from tests.api.shapes import problem_of
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1"
NEW = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "linked": True}


def test_a_creation_whose_clone_died_is_shown_as_failed(operator_calls, cluster, sim, work):
    body = stuck(operator_calls, sim, work)
    vm = operator_calls.get(f"{API}/vms/{body['vmid']}").json()
    assert vm["status"] == "error"
    assert "qm unlock" in vm["last_error"]
    answer = operator_calls.post(f"{API}/vms/{body['vmid']}/actions", {"action": "start"})
    problem_of(answer, 409, "wrong_state")
    sim.cause(accidents.set_lock, vmid=int(body["vmid"]), lock=None)


def test_what_a_dead_clone_left_is_deleted_once_it_is_unlocked(operator_calls, cluster, sim, work):
    body = stuck(operator_calls, sim, work)
    vmid = int(body["vmid"])

    def as_killed_early(s: Simulator) -> None:
        config = s.world.guests[vmid].config
        config.clear()
        config["description"] = " qmclone temporary file"

    # As the task's error says: qm unlock, "then delete the VM here".
    sim.change(as_killed_early)
    deletion = operator_calls.delete(f"{API}/vms/{body['uuid']}").json()
    ended = work(deletion["task_id"])
    assert ended.state == "succeeded", ended.error
    assert sim.guest(int(body["vmid"])) is None


def stuck(operator_calls, sim, work) -> dict[str, str]:
    sim.cause(accidents.kill_next_task, kind="qmclone", after_s=0.5)
    body = operator_calls.post(f"{API}/vms", {**NEW, "linked": False}).json()
    assert work(body["task_id"]).error_code == "stuck_lock"
    return {"vmid": body["vmid"], "uuid": body["vm"]["uuid"]}


def test_work_under_way_leaves_a_cluster_that_was_switched_off_alone(
    operator_calls, cluster, sim, work
):
    body = operator_calls.post(f"{API}/vms", NEW).json()
    Cluster.objects.filter(pk=cluster.pk).update(is_enabled=False)
    sim.forget_calls()
    engine.take_turn(Operation.objects.get(uuid=body["task_id"]).pk)
    assert [call for call in sim.calls if call.method != "GET"] == []
    assert VirtualMachine.objects.get(uuid=body["vm"]["uuid"]).status == "creating"
