"""What has changed hands: who had it before neither sees, cancels nor tries anything again."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from accounts.actors import MEMBER
from accounts.models import Project, Quota
from operations.models import Operation
from pve_simulator import accidents
from templates_app.models import Template
from tests.api.shapes import Caller, problem_of
from tests.conftest import client_with
from tests.vms.cast import a_vm
from vms.models import GIB, VirtualMachine
from vms.quota import usage_of

pytestmark = pytest.mark.django_db(transaction=True)
API = "/api/v1"
NEW = {"name": "web", "template": "ubuntu-22.04", "linked": True, "start_on_create": False}
CLONE = {"action": "clone", "clone_name": "copy"}


@pytest.fixture
def member(project) -> Caller:
    return Caller(client_with(project, MEMBER))


@pytest.fixture
def neighbour(project) -> Project:
    return Project.objects.create(name="neighbour")


@pytest.fixture
def vm(cluster, sim, operator) -> VirtualMachine:
    return a_vm(sim, operator, running=False)


@pytest.fixture
def fail(sim, work) -> Any:
    """Ask for something whose Proxmox task fails, and have its operation."""

    def failed(answer: Any, kind: str) -> Operation:
        sim.cause(accidents.fail_next_task, kind=kind, text="no space left on device")
        ended: Operation = work(answer.json()["task_id"])
        assert ended.state == "failed"
        return ended

    return failed


def give(api: Any, vm: VirtualMachine, project: Project) -> Any:
    return api.patch(f"{API}/vms/{vm.uuid}", {"project": project.name}, format="json")


def test_a_failed_deletion_is_not_tried_again_by_the_former_project(
    member, api, vm, neighbour, fail, sim
):
    task = fail(member.delete(f"{API}/vms/{vm.uuid}"), "qmdestroy")
    assert give(api, vm, neighbour).status_code == 200
    for verb in ("retry", "cancel"):
        problem_of(member.post(f"{API}/tasks/{task.uuid}/{verb}"), 404, "task_not_found")
    problem_of(member.get(f"{API}/tasks/{task.uuid}"), 404, "task_not_found")
    # It is the task of a VM that is another's now.
    theirs = client_with(neighbour, MEMBER)
    assert theirs.get(f"{API}/tasks/{task.uuid}").json()["status"] == "failed"
    assert sim.guest(vm.vmid) is not None


def test_a_failed_clone_is_not_tried_again_from_what_is_anothers_now(
    member, api, vm, neighbour, fail, sim
):
    task = fail(member.post(f"{API}/vms/{vm.uuid}/actions", CLONE), "qmclone")
    assert give(api, vm, neighbour).status_code == 200
    sim.forget_calls()
    problem_of(member.post(f"{API}/tasks/{task.uuid}/retry"), 409, "vm_gone")
    assert sim.calls_to("POST", "/clone$") == []
    # An operator may, and the clone is the project's that asked for it.
    assert api.post(f"{API}/tasks/{task.uuid}/retry").status_code == 202


def test_a_failed_creation_is_not_tried_again_from_a_template_that_is_hidden_now(
    member, cluster, fail, work
):
    task = fail(member.post(f"{API}/vms", NEW), "qmclone")
    template = Template.objects.filter(vmid=9000)
    template.update(is_published=False)
    problem_of(member.post(f"{API}/tasks/{task.uuid}/retry"), 409, "template_gone")
    template.update(is_published=True)
    again = member.post(f"{API}/tasks/{task.uuid}/retry")
    assert work(again.json()["task_id"]).state == "succeeded"


def test_what_was_cloned_already_goes_on_though_its_template_is_hidden(member, cluster, fail, work):
    task = fail(
        member.post(f"{API}/vms", {**NEW, "start_on_create": True, "keep": True}), "qmstart"
    )
    Template.objects.filter(vmid=9000).update(is_published=False)
    again = member.post(f"{API}/tasks/{task.uuid}/retry")
    assert work(again.json()["task_id"]).state == "succeeded"


def test_a_template_published_since_is_not_deleted_by_a_retry(member, api, vm, fail, work, sim):
    converted: Any = member.post(f"{API}/vms/{vm.uuid}/actions", {"action": "template"})
    assert work(converted.json()["task_id"]).state == "succeeded"
    task = fail(member.delete(f"{API}/templates/{vm.vmid}"), "qmdestroy")
    Template.objects.filter(vmid=vm.vmid).update(is_published=True)
    problem_of(member.delete(f"{API}/templates/{vm.vmid}"), 403)
    problem_of(member.post(f"{API}/tasks/{task.uuid}/retry"), 403)
    assert sim.guest(vm.vmid) is not None
    assert api.post(f"{API}/tasks/{task.uuid}/retry").status_code == 202


def test_a_member_that_tries_an_operators_conversion_again_offers_it_to_nobody_else(
    member, api, vm, fail, work
):
    asked = api.post(f"{API}/vms/{vm.uuid}/actions", {"action": "template"}, format="json")
    task = fail(asked, "qmtemplate")
    other = Template.objects.filter(vmid=9000)
    other.update(name=vm.name)
    problem_of(member.post(f"{API}/tasks/{task.uuid}/retry"), 409, "template_exists")
    other.update(name="ubuntu-22.04")
    again = member.post(f"{API}/tasks/{task.uuid}/retry")
    assert work(again.json()["task_id"]).state == "succeeded"
    template = Template.objects.get(vmid=vm.vmid, missing_since=None)
    assert (template.is_published, template.project) == (False, vm.project)


def test_what_a_task_works_on_does_not_change_hands(member, api, vm, neighbour, work):
    """What it grows by counts for the quota of who asked for it."""
    Quota.objects.create(project=neighbour, disk_gib=20)
    grown = member.ask("PATCH", f"{API}/vms/{vm.uuid}", {"disk_size": 50}).json()
    refused = give(api, vm, neighbour)
    assert (refused.status_code, refused.json()["code"]) == (409, "claimed")
    assert work(grown["task_id"]).state == "succeeded"
    refused = give(api, vm, neighbour)
    assert (refused.status_code, refused.json()["code"]) == (403, "quota_exceeded")
    assert usage_of(neighbour).disk_bytes == 0
    assert usage_of(vm.project).disk_bytes == 50 * GIB


def test_a_repeated_request_shows_nothing_of_what_is_anothers_now(member, api, vm, neighbour, work):
    keys = {"own": {"metadata": {"a": "b"}}, "long": {"cores": 2}}
    path = f"{API}/vms/{vm.uuid}"

    def ask(key: str) -> Any:
        return member.ask("PATCH", path, keys[key], Idempotency_Key=key)

    assert ask("own").json() == ask("own").json()
    work(ask("long").json()["task_id"])
    assert give(api, vm, neighbour).status_code == 200
    problem_of(ask("own"), 404, "vm_not_found")
    problem_of(ask("long"), 404, "task_not_found")


def test_a_key_of_what_is_done_at_once_is_for_one_request(member, api, vm):
    path, key = f"{API}/vms/{vm.uuid}", str(uuid.uuid4())
    first = member.ask("PATCH", path, {"metadata": {"a": "1"}}, Idempotency_Key=key)
    assert (first.status_code, first.json()["vm"]["metadata"]) == (200, {"a": "1"})
    other = member.ask("PATCH", path, {"metadata": {"a": "2"}}, Idempotency_Key=key)
    problem_of(other, 409, "idempotency_key_reused")
