"""Creations: defaults, sizes, and what a project's quota leaves."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections
from rest_framework.test import APIClient

from accounts.models import ApiToken, Project, Quota
from events.models import Event
from operations.models import Claim, Operation
from tests.api.shapes import VM_FIELDS, Caller, problem_of
from tests.threads import at_once
from vms.models import Size, VirtualMachine
from vms.quota import usage_of

pytestmark = pytest.mark.django_db

API = "/api/v1"
NEW = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "linked": True}


def test_the_defaults_without_a_size_are_the_contracts(operator_calls, cluster):
    body = operator_calls.post(f"{API}/vms", {"name": "web", "template": 9000}).json()
    vm = body["vm"]
    assert set(body) == {"vm", "vmid", "task_id", "task"}
    assert (vm["cores"], vm["memory"], vm["disk_size"]) == (1, 1024, 20)
    assert (vm["status"], vm["template"], vm["task"]) == (
        "creating",
        "ubuntu-22.04",
        body["task_id"],
    )
    assert set(vm) == VM_FIELDS


def test_each_number_overrides_the_size(operator_calls, cluster):
    asked = {"name": "web", "template": "9000", "size": "medium", "cores": 4}
    vm = operator_calls.post(f"{API}/vms", asked).json()["vm"]
    assert (vm["size"], vm["cores"], vm["memory"], vm["disk_size"]) == ("medium", 4, 2048, 40)


def test_a_templates_own_disk_is_never_made_smaller(operator_calls, cluster):
    asked = {"name": "web", "template": "rocky-9", "size": "nano"}
    assert operator_calls.post(f"{API}/vms", asked).json()["vm"]["disk_size"] == 10


def test_an_operators_size_counts_at_once(operator_calls, cluster):
    Size.objects.filter(name="nano").update(cores=3)
    asked = {"name": "web", "template": "9000", "size": "nano"}
    assert operator_calls.post(f"{API}/vms", asked).json()["vm"]["cores"] == 3


# --- quotas ---


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        ({"vms": 1}, {}),
        ({"cores": 4}, {"cores": 4}),
        ({"memory_mib": 1500}, {"memory": 512}),
        ({"disk_gib": 30}, {}),
    ],
    ids=str,
)
def test_beyond_the_quota_nothing_is_written(limit, asked, member_calls, owned, project, sim):
    # The project has VM 100 already: 1 core, 1024 MiB, 20 GiB.
    Quota.objects.create(project=project, **limit)
    before = (VirtualMachine.objects.count(), Event.objects.count())
    sim.forget_calls()
    body = problem_of(member_calls.post(f"{API}/vms", {**NEW, **asked}), 403, "quota_exceeded")
    assert "default" in body["detail"]
    assert (VirtualMachine.objects.count(), Event.objects.count()) == before
    assert not Operation.objects.exists()
    assert not Claim.objects.exists()
    assert [call for call in sim.calls if call.method != "GET"] == []


def test_within_the_quota_it_is_made(member_calls, owned, project):
    Quota.objects.create(project=project, vms=2, cores=2, memory_mib=1536, disk_gib=40)
    assert member_calls.post(f"{API}/vms", NEW).status_code == 202
    problem_of(member_calls.post(f"{API}/vms", NEW), 403, "quota_exceeded")


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_twenty_at_once_never_exceed_the_quota(cluster, project):
    Quota.objects.create(project=project, vms=5, cores=50)
    _, token = ApiToken.objects.issue(name="many", project=project)

    def create() -> Any:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return Caller(client).post(f"{API}/vms", NEW)

    answers = at_once(*[create] * 20)
    connections["default"].close()

    codes = sorted(answer.status_code for answer in answers)
    assert codes == [202] * 5 + [403] * 15
    assert usage_of(Project.objects.get(pk=project.pk)).vms == 5
    vmids = [answer.json()["vmid"] for answer in answers if answer.status_code == 202]
    assert len(set(vmids)) == 5


@pytest.mark.django_db
def test_a_vmid_that_another_got_meanwhile_is_a_conflict(operator_calls, cluster, monkeypatch):
    """The last numbers of a range, found by two before either has written its row."""
    monkeypatch.setattr("vms.preflight.next_vmids", lambda cluster, count: [5000] * count)
    monkeypatch.setattr("proxmox.Client.vmid_is_free", lambda *_, **__: True)
    assert operator_calls.post(f"{API}/vms", NEW).status_code == 202
    problem_of(operator_calls.post(f"{API}/vms", NEW), 409, "vmid_taken")
    assert VirtualMachine.objects.filter(vmid=5000).count() == 1
