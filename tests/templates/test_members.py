"""A member makes a template of its VM: it is its project's, until an operator offers it to all."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.actors import MEMBER
from accounts.models import Project, Quota
from templates_app.models import Template
from tests.api.shapes import Caller, problem_of
from tests.conftest import client_with
from tests.vms.cast import an_image
from vms import template_actions
from vms.asked import NewTemplate
from vms.models import GIB
from vms.quota import usage_of

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1"
NEW = {"name": "golden", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "disk_size": 5}


@pytest.fixture
def member(project) -> Caller:
    return Caller(client_with(project, MEMBER))


@pytest.fixture
def stranger(project) -> Caller:
    return Caller(client_with(Project.objects.create(name="neighbour"), MEMBER))


def convert(caller: Any, work: Any, **named: Any) -> str:
    body = caller.post(f"{API}/vms", {**NEW, "start_on_create": False, **named}).json()
    assert work(body["task_id"]).state == "succeeded"
    path = f"{API}/vms/{body['vmid']}/actions"
    answer = caller.post(path, {"action": "template"})
    assert answer.status_code == 202, answer.json()
    assert work(answer.json()["task_id"]).state == "succeeded"
    return str(body["vmid"])


def test_it_is_its_projects_alone(member, stranger, api, cluster, work):
    vmid = convert(member, work)
    body = member.get(f"{API}/templates/{vmid}").json()
    assert (body["published"], body["project"]) == (False, "default")
    assert api.get(f"{API}/templates/{vmid}").status_code == 200
    problem_of(stranger.get(f"{API}/templates/{vmid}"), 404, "template_not_found")
    for name in (vmid, "golden"):
        asked = {**NEW, "template": name}
        problem_of(stranger.post(f"{API}/vms", asked), 400, "template_not_found")
    made = member.post(f"{API}/vms", {**NEW, "name": "from-it", "template": "golden"})
    assert made.status_code == 202, made.json()


def test_nobody_takes_the_name_of_one_that_all_can_see(member, cluster, work):
    body = member.post(f"{API}/vms", {**NEW, "name": "debian-12", "start_on_create": False}).json()
    work(body["task_id"])
    path = f"{API}/vms/{body['vmid']}/actions"
    problem_of(member.post(path, {"action": "template"}), 409, "template_exists")


def a_stopped_vm(caller: Any, work: Any) -> str:
    """The path of its actions."""
    body = caller.post(f"{API}/vms", {**NEW, "start_on_create": False}).json()
    assert work(body["task_id"]).state == "succeeded"
    return f"{API}/vms/{body['vm']['uuid']}/actions"


@pytest.mark.parametrize(("first", "second"), [("operator", "operator"), ("member", "operator")])
def test_two_of_a_name_are_not_made_at_once(first, second, api, member, cluster, work):
    callers = {"operator": Caller(api), "member": member}
    paths = [(callers[who], a_stopped_vm(callers[who], work)) for who in (first, second)]
    answers = [caller.post(path, {"action": "template"}) for caller, path in paths]
    problem_of(answers[1], 409, "claimed")
    assert work(answers[0].json()["task_id"]).state == "succeeded"
    problem_of(paths[1][0].post(paths[1][1], {"action": "template"}), 409, "template_exists")


def test_none_is_made_of_a_vm_while_one_of_its_name_is_built(member, cluster, operator, work):
    path = a_stopped_vm(member, work)
    asked = NewTemplate(name="golden", url=an_image(), disk_gib=4)
    template_actions.build_template(asked=asked, by=operator)
    problem_of(member.post(path, {"action": "template"}), 409, "claimed")


def test_two_projects_make_one_of_a_name_at_once(member, stranger, cluster, work):
    paths = [(caller, a_stopped_vm(caller, work)) for caller in (member, stranger)]
    answers = [caller.post(path, {"action": "template"}) for caller, path in paths]
    for answer in answers:
        assert work(answer.json()["task_id"]).state == "succeeded"
    assert Template.objects.filter(name="golden", is_published=False).count() == 2


def test_its_disk_stays_in_the_quota(member, project, cluster, work):
    Quota.objects.create(project=project, disk_gib=9)
    convert(member, work)
    assert usage_of(project).disk_bytes == 5 * GIB
    problem_of(member.post(f"{API}/vms", {**NEW, "name": "more"}), 403, "quota_exceeded")


def test_what_its_original_is_a_copy_is_too(member, api, project, cluster, work):
    vmid = convert(member, work, template="rocky-9", disk_size=10)
    other = next(name for name in ("pve", "pve2", "pve3") if name != node_of(vmid))
    answer = api.post(f"{API}/templates/{vmid}/copies", {"node": other}).json()
    assert work(answer["task_id"]).state == "succeeded"
    used = usage_of(project).disk_bytes
    copy = f"{API}/templates/{answer['copy']['id']}"
    Template.objects.filter(vmid=vmid).update(is_published=True)
    assert used > usage_of(project).disk_bytes == 0
    assert member.get(copy).json()["published"] is True
    problem_of(member.delete(copy), 403)
    Template.objects.filter(vmid=vmid).update(is_published=False)
    assert member.delete(copy).status_code == 202


def node_of(vmid: str) -> str:
    return str(Template.objects.get(vmid=vmid).node)


def test_its_project_deletes_it_but_not_once_it_is_offered_to_all(member, api, cluster, sim, work):
    vmid = convert(member, work)
    Template.objects.filter(vmid=vmid).update(is_published=True)
    problem_of(member.delete(f"{API}/templates/{vmid}"), 403)
    Template.objects.filter(vmid=vmid).update(is_published=False)
    answer = member.delete(f"{API}/templates/{vmid}")
    assert answer.status_code == 202, answer.json()
    assert member.get(f"{API}/tasks/{answer.json()['task_id']}").status_code == 200
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert sim.guest(int(vmid)) is None
    problem_of(member.delete(f"{API}/templates/9001"), 403)
