"""Tasks of the API: Izvor's own, and those that Proxmox runs for others."""

from __future__ import annotations

import json
import re

import pytest
from django.utils import timezone

from clusters.models import Cluster
from izvor_project.waiting import render_end
from operations.models import CANCELED, ENDED, Operation
from tests.api.shapes import UTC_TIME, fields_of, problem_of, started_in_proxmox
from tests.vms.cast import a_vm
from vms import actions
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db

API = "/api/v1"
NEW = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "linked": True}

# API.md, the task.
TASK_FIELDS = {
    "id",
    "upid",
    "node",
    "type",
    "status",
    "exit_status",
    "progress",
    "steps",
    "waiting_for",
    "warnings",
    "error",
    "start_time",
    "end_time",
    "user",
    "vmid",
}


def test_a_task_is_shown_by_id_and_by_upid(operator_calls, cluster, operator, sim, work):
    vm = a_vm(sim, operator, running=False)
    asked = operator_calls.post(f"{API}/vms/{vm.uuid}/actions", {"action": "start"}).json()
    queued = operator_calls.get(f"{API}/tasks/{asked['task_id']}").json()
    assert set(queued) >= TASK_FIELDS
    assert (queued["status"], queued["upid"], queued["exit_status"]) == ("queued", None, None)
    assert queued["steps"][0]["status"] == "running" or queued["steps"][0]["status"] == "waiting"

    work(asked["task_id"])
    task = operator_calls.get(f"{API}/tasks/{asked['task_id']}").json()
    assert (task["status"], task["progress"], task["exit_status"]) == ("succeeded", 100, "OK")
    assert (task["type"], task["vmid"], task["error"]) == ("start_vm", str(vm.vmid), None)
    assert task["upid"].startswith(f"UPID:{task['node']}:")
    assert [step["status"] for step in task["steps"]] == ["done"]
    assert task["start_time"] <= task["end_time"]
    assert operator_calls.get(f"{API}/tasks/{task['upid']}").json() == task
    assert operator_calls.get(f"{API}/tasks/{task['upid']}?node={task['node']}").json() == task
    for handle in (task["id"], task["upid"]):
        log = operator_calls.get(f"{API}/tasks/{handle}/log").json()["log"]
        assert log[-1] == {"upid": task["upid"], "text": "TASK OK"}
        problem_of(operator_calls.post(f"{API}/tasks/{handle}/cancel"), 409, "task_ended")


def test_tasks_are_listed_newest_first_and_filtered(operator_calls, cluster, operator):
    for vmid in (100, 101):
        vm = cluster.vms.get(vmid=vmid)
        actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator)
    VirtualMachine.objects.filter(vmid=106).update(name="")
    nameless = cluster.vms.get(vmid=106)
    actions.start_vm(vm=nameless, by=operator)

    def listed(query: str) -> list[str]:
        return [t["vmid"] for t in operator_calls.get(f"{API}/tasks?{query}").json()["tasks"]]

    assert listed("") == ["106", "101", "100"]
    assert listed("vm=100") == ["100"]
    assert listed("vm=106") == ["106"]
    assert listed(f"vm={cluster.vms.get(vmid=101).uuid}") == ["101"]
    assert listed("kind=start_vm") == ["106"]
    assert listed("status=queued&limit=2") == ["106", "101"]
    assert listed("status=failed") == []
    assert fields_of(problem_of(operator_calls.get(f"{API}/tasks?status=x"), 400)) == ["status"]
    for wrong in ("x", "10", "-1"):
        body = problem_of(operator_calls.get(f"{API}/tasks?vm={wrong}"), 400)
        assert fields_of(body) == ["vm"]


@pytest.mark.parametrize("warnings", [[], ["It is slow.", "It is old."]])
@pytest.mark.parametrize("placement", [None, {"node": "pve", "reason": "asked for"}])
def test_a_task_is_listed_as_it_is_shown(warnings, placement, operator_calls, cluster):
    upid = "UPID:pve:00000001:00000002:65000000:qmstart:100:root@pam:"
    step = {"name": "start", "started_at": "2026-11-27T06:00:00+00:00", "upids": [upid]}
    Operation.objects.create(
        cluster=cluster,
        kind="start_vm",
        step="start",
        by="ana",
        warnings=warnings,
        params={"placement": placement} if placement else {},
        steps=[step],
    )
    (listed,) = operator_calls.get(f"{API}/tasks").json()["tasks"]
    assert listed == operator_calls.get(f"{API}/tasks/{listed['id']}").json()
    assert (listed["warnings"], listed["placement"]) == (warnings, placement)


UPIDS = [f"UPID:pve:0000000{n}:00000002:65000000:qmclone:100:root@pam:" for n in (1, 2)]
CLONED = {
    "name": "clone",
    "started_at": "2026-11-27T06:00:01+00:00",
    "upids": UPIDS,
    "ended_at": "2026-11-27T06:00:02.5+00:00",
}
CUT_SHORT = {"name": "move", "started_at": "2026-11-27T06:00:03+00:00", "upids": []}


@pytest.mark.parametrize(
    ("state", "step", "is_undoing", "taken", "shown"),
    [
        ("queued", "clone", False, [], "clone waiting, move waiting, convert waiting"),
        ("running", "clone", False, [], "clone running, move waiting, convert waiting"),
        ("queued", "move", False, [CLONED], "clone done, move waiting, convert waiting"),
        ("running", "move", False, [CLONED], "clone done, move running, convert waiting"),
        (
            *("running", "stop_to_discard", True, [CLONED, CUT_SHORT]),
            "clone done, move waiting, stop_to_discard running, discard waiting",
        ),
        ("failed", "move", False, [CLONED, CUT_SHORT], "clone done, move failed"),
        ("canceled", "clone", False, [], ""),
    ],
)
def test_a_step_says_what_became_of_it(
    state, step, is_undoing, taken, shown, operator_calls, cluster
):
    ended_at = timezone.now() if state in ENDED else None
    Operation.objects.create(
        **{"cluster": cluster, "kind": "copy_template", "by": "ana", "steps": taken},
        **{"state": state, "step": step, "is_undoing": is_undoing, "ended_at": ended_at},
        error_code="storage_full" if state == "failed" else "",
    )
    (listed,) = operator_calls.get(f"{API}/tasks").json()["tasks"]
    told = ", ".join(f"{one['name']} {one['status']}" for one in listed["steps"])
    assert told == shown
    assert (listed["upid"], listed["node"]) == ((UPIDS[-1], "pve") if taken else (None, None))
    assert listed["step"] == (None if ended_at else step)
    for one in listed["steps"][: len(taken)]:
        assert one["started_at"].endswith("Z")
    if taken:
        assert listed["steps"][0] == {
            "name": "clone",
            "status": "done",
            "upids": UPIDS,
            "started_at": "2026-11-27T06:00:01Z",
            "ended_at": "2026-11-27T06:00:02.5Z",
        }
    if state == "failed":
        assert listed["steps"][-1]["ended_at"] == listed["end_time"] is not None


def test_a_foreign_task_is_shown_and_not_canceled(operator_calls, cluster, sim):
    upid = started_in_proxmox(sim)
    task = operator_calls.get(f"{API}/tasks/{upid}").json()
    assert set(task) >= TASK_FIELDS
    assert (task["status"], task["exit_status"], task["user"]) == ("stopped", "OK", "root@pam")
    assert (task["type"], task["vmid"], task["node"]) == ("qmsnapshot", "100", "pve")
    assert UTC_TIME.fullmatch(task["start_time"])
    problem_of(operator_calls.post(f"{API}/tasks/{upid}/cancel"), 409, "not_cancelable")
    problem_of(operator_calls.get(f"{API}/tasks/{upid}?node=pve2"), 400)
    unknown = re.sub(r"UPID:pve:\w+:", "UPID:pve:0BADF00D:", upid)
    problem_of(operator_calls.get(f"{API}/tasks/{unknown}"), 404, "task_not_found")
    elsewhere = upid.replace("UPID:pve:", "UPID:pve9:")
    problem_of(operator_calls.get(f"{API}/tasks/{elsewhere}"), 404, "task_not_found")


def test_a_queued_creation_is_canceled_without_a_trace(operator_calls, cluster, work, sim):
    guests = len(sim.guests())
    body = operator_calls.post(f"{API}/vms", NEW).json()
    answer = operator_calls.post(f"{API}/tasks/{body['task_id']}/cancel")
    assert answer.status_code == 202
    assert work(body["task_id"]).state == "canceled"
    problem_of(operator_calls.get(f"{API}/vms/{body['vmid']}"), 404, "vm_not_found")
    assert len(sim.guests()) == guests


def test_of_a_cluster_that_is_switched_off_no_log_is_read(operator_calls, cluster, operator, sim):
    a_vm(sim, operator, running=False)
    Cluster.objects.filter(pk=cluster.pk).update(is_enabled=False)
    sim.forget_calls()
    answer = operator_calls.get(f"{API}/tasks/{Operation.objects.get().uuid}/log")
    problem_of(answer, 503, "cluster_disabled")
    assert sim.calls == []


def test_a_cancel_that_came_too_late_says_so_to_who_waits(cluster, operator, sim):
    a_vm(sim, operator, running=False)
    task = Operation.objects.get()
    end = render_end([task.uuid], CANCELED, "the-request")
    assert end is not None
    status, _, body = end
    told = json.loads(body)
    assert (status, told["code"]) == (409, "not_cancelable")
    assert "has succeeded" in told["detail"]
