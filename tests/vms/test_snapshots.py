"""Snapshots through the API: taken, listed, rolled back to, deleted."""

from __future__ import annotations

import json

import pytest
from rest_framework.utils.encoders import JSONEncoder

from accounts.models import Quota
from operations.rest import final_answer
from pve_simulator import accidents
from tests.api.shapes import fields_of, problem_of
from tests.vms.cast import a_vm, finish
from vms import actions
from vms.quota import usage_of

pytestmark = pytest.mark.django_db(transaction=True)


def test_snapshots_are_taken_listed_rolled_back_and_deleted(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    path = f"/api/v1/vms/{vm.vmid}/snapshots"
    for name, ram in (("clean", False), ("warm", True)):
        answer = api.post(path, {"name": name, "description": "d", "include_ram": ram})
        assert answer.status_code == 202, answer.json()
        assert work(answer.json()["task_id"]).state == "succeeded"
    listed = api.get(path).json()
    assert listed["count"] == 2
    assert [(s["name"], s["parent"], s["vm_state"]) for s in listed["snapshots"]] == [
        ("clean", None, False),
        ("warm", "clean", True),
    ]
    answer = api.post(f"{path}/clean/rollback", {"start": True})
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert api.get(f"/api/v1/vms/{vm.vmid}").json()["status"] == "running"
    answer = api.delete(f"{path}/warm")
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert api.get(path).json()["count"] == 1


def test_the_snapshot_is_in_the_answer_once_it_is_taken(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    path = f"/api/v1/vms/{vm.vmid}"
    for where, asked, name in (
        (f"{path}/snapshots", {"name": "one", "description": "d", "include_ram": True}, "one"),
        (f"{path}/actions", {"action": "snapshot", "snapshot_name": "two"}, "two"),
    ):
        answer = api.post(where, asked).json()
        assert "snapshot" not in answer
        status, said, _ = final_answer([work(answer["task_id"])])
        said = json.loads(json.dumps(said, cls=JSONEncoder))
        assert (status, said["action"], said["name"]) == (200, "snapshot", name)
        listed = {s["name"]: s for s in api.get(f"{path}/snapshots").json()["snapshots"]}
        assert said["snapshot"] == listed[name]


def test_a_task_says_that_there_was_no_memory_to_keep(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    for name, ram, said in (
        ("cold", True, [f"VM {vm.vmid} was not running, so there was no memory to keep."]),
        ("plain", False, []),
    ):
        asked = {"name": name, "include_ram": ram}
        task = api.post(f"/api/v1/vms/{vm.vmid}/snapshots", asked).json()["task_id"]
        assert work(task).state == "succeeded"
        assert api.get(f"/api/v1/tasks/{task}").json()["warnings"] == said


def test_a_rollback_brings_back_cores_and_tags_and_keeps_the_mark(
    api, cluster, sim, operator, work
):
    vm = a_vm(sim, operator, running=False)
    finish(
        actions.take_snapshot(vm=vm, name="before", description="", include_ram=False, by=operator)
    )
    sim.change(
        lambda s: s.world.guests[vm.vmid].snapshots["before"].config.update(description="old")
    )
    answer = api.patch(f"/api/v1/vms/{vm.vmid}", {"cores": 4, "tags": ["changed"]})
    assert work(answer.json()["task_id"]).state == "succeeded"
    answer = api.post(f"/api/v1/vms/{vm.vmid}/snapshots/before/rollback", {})
    assert work(answer.json()["task_id"]).state == "succeeded"
    vm.refresh_from_db()
    assert (vm.cores, vm.tags, vm.description, vm.is_ours) == (1, ["izvor"], "old", True)


def test_hardware_that_a_rollback_brings_back_is_of_no_size(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False, cores=None, memory_mib=None, size="micro")
    path = f"/api/v1/vms/{vm.vmid}"
    finish(
        actions.take_snapshot(vm=vm, name="before", description="", include_ram=False, by=operator)
    )
    answer = api.post(f"{path}/snapshots/before/rollback", {})
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert api.get(path).json()["size"] == "micro"
    assert work(api.patch(path, {"size": "large"}).json()["task_id"]).state == "succeeded"
    assert api.get(path).json()["size"] == "large"
    answer = api.post(f"{path}/snapshots/before/rollback", {})
    assert work(answer.json()["task_id"]).state == "succeeded"
    shown = api.get(path).json()
    assert (shown["size"], shown["cores"], shown["memory"]) == (None, 1, 512)


def test_hardware_that_was_changed_in_proxmox_is_of_no_size(api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False, cores=None, memory_mib=None, size="micro")
    sim.cause(accidents.set_option, vmid=vm.vmid, key="memory", value=4096)
    shown = api.get(f"/api/v1/vms/{vm.vmid}?refresh=true").json()
    assert (shown["size"], shown["memory"]) == (None, 4096)


@pytest.mark.parametrize("name", ["1st", "x", "current", "a b", "a" * 41, "../x"])
def test_a_bad_snapshot_name_is_refused(api, cluster, sim, operator, name):
    vm = a_vm(sim, operator, running=False)
    answer = api.post(f"/api/v1/vms/{vm.vmid}/snapshots", {"name": name})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "name")


def test_a_snapshot_that_exists_or_does_not_is_said_at_once(api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    path = f"/api/v1/vms/{vm.vmid}/snapshots"
    finish(
        actions.take_snapshot(vm=vm, name="once", description="", include_ram=False, by=operator)
    )
    again = {"action": "snapshot", "snapshot_name": "once"}
    for where, asked, field in (
        (path, {"name": "once"}, "name"),
        (f"/api/v1/vms/{vm.vmid}/actions", again, "snapshot_name"),
    ):
        refused = api.post(where, asked).json()
        assert refused["code"] == "snapshot_exists"
        assert refused["errors"][0]["field"] == field
    assert api.delete(f"{path}/never").status_code == 404
    assert api.post(f"{path}/never/rollback", {}).json()["code"] == "snapshot_not_found"


@pytest.mark.parametrize(
    "name", ["current", "CURRENT", "pending", "Pending", "special", "cloudinit"]
)
def test_names_that_proxmox_keeps_for_itself_are_refused(name, api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    for where, field in (("snapshots", "name"), ("actions", "snapshot_name")):
        asked = {field: name} | ({"action": "snapshot"} if where == "actions" else {})
        answer = api.post(f"/api/v1/vms/{vm.vmid}/{where}", asked)
        assert fields_of(problem_of(answer, 400)) == [field]


def test_a_rollback_is_within_the_quota(api, cluster, project, sim, operator, work):
    vm = a_vm(sim, operator, running=False, cores=4)
    finish(
        actions.take_snapshot(vm=vm, name="large", description="", include_ram=False, by=operator)
    )
    work(api.patch(f"/api/v1/vms/{vm.vmid}", {"cores": 1}).json()["task_id"])
    quota = Quota.objects.create(project=project, cores=3)
    path = f"/api/v1/vms/{vm.vmid}/snapshots/large/rollback"
    answer = api.post(path, {})
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
    Quota.objects.filter(pk=quota.pk).update(cores=4)
    task = api.post(path, {}).json()["task_id"]
    # It has what it will grow to from now on.
    assert usage_of(project).cores == 4
    assert work(task).state == "succeeded"
    assert usage_of(project).cores == 4


def test_a_vm_with_snapshots_does_not_become_a_template(api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    finish(
        actions.take_snapshot(vm=vm, name="first", description="", include_ram=False, by=operator)
    )
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", {"action": "template"}, format="json")
    assert "first" in problem_of(answer, 409, "has_snapshots")["detail"]
