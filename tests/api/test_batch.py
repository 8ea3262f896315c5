"""`count`: several VMs by one request, numbered; all that were asked for, or a minimum, or none."""

from __future__ import annotations

import pytest

from accounts.models import Quota
from operations.models import Operation
from tests.api.shapes import fields_of, problem_of
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1/vms"
NEW = {"name": "web", "template": "ubuntu-22.04", "linked": True, "cores": 1, "memory": 512}


def named(*numbers: int) -> set[str]:
    return {f"web-{number}" for number in numbers}


def test_a_batch_makes_numbered_vms_with_a_task_each(operator_calls, cluster, sim, work):
    answer = operator_calls.post(API, {**NEW, "count": 3})
    assert answer.status_code == 202, answer.json()
    body = answer.json()
    assert set(body) == {"vms", "tasks"}
    assert {vm["name"] for vm in body["vms"]} == named(1, 2, 3)
    assert len({vm["id"] for vm in body["vms"]}) == 3
    for task in body["tasks"]:
        assert work(task["id"]).state == "succeeded"
    for vm in body["vms"]:
        guest = sim.guest(int(vm["id"]))
        assert guest is not None
        assert guest.config["name"] == vm["name"]


def test_a_batch_of_one_is_numbered_too(operator_calls, cluster):
    body = operator_calls.post(API, {**NEW, "count": 1}).json()
    assert [vm["name"] for vm in body["vms"]] == ["web-1"]


def test_a_batch_that_does_not_fit_makes_none(operator_calls, cluster, project):
    Quota.objects.create(project=project, vms=2)
    problem_of(operator_calls.post(API, {**NEW, "count": 3}), 403, "quota_exceeded")
    assert not Operation.objects.exists()
    assert not VirtualMachine.objects.filter(name__startswith="web-").exclude(is_ours=False)


def test_with_a_minimum_as_many_as_fit_are_made(operator_calls, cluster, project):
    Quota.objects.create(project=project, vms=2)
    body = operator_calls.post(API, {**NEW, "count": 5, "min_count": 1}).json()
    assert {vm["name"] for vm in body["vms"]} == named(1, 2)


def test_dry_run_says_how_many_would_fit_and_where(operator_calls, cluster, project):
    Quota.objects.create(project=project, vms=2)
    said = operator_calls.post(f"{API}?dry_run=true", {**NEW, "count": 5, "min_count": 2}).json()
    assert said["count"] == len(said["nodes"]) == 2
    assert said["quota"]["vms"] == {"used": 0, "adds": 2, "limit": 2}
    problem_of(operator_calls.post(f"{API}?dry_run=true", {**NEW, "count": 3}), 403)


def test_a_batch_spreads_over_the_nodes(operator_calls, cluster):
    nodes = operator_calls.post(f"{API}?dry_run=true", {**NEW, "memory": 4096, "count": 6}).json()
    assert len(set(nodes["nodes"])) > 1


def test_a_repeated_batch_gives_the_first_ones_vms(operator_calls, cluster):
    first = operator_calls.post(API, {**NEW, "count": 2}, Idempotency_Key="twice").json()
    again = operator_calls.post(API, {**NEW, "count": 2}, Idempotency_Key="twice").json()
    assert [vm["uuid"] for vm in again["vms"]] == [vm["uuid"] for vm in first["vms"]]
    assert Operation.objects.count() == 2


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"count": 0}, "count"),
        ({"count": 101}, "count"),
        ({"count": "2"}, "count"),
        ({"min_count": 1}, "min_count"),
        ({"count": 2, "min_count": 3}, "min_count"),
        ({"count": 10, "name": "w" * 62}, "name"),
        ({"count": 2, "ip_config": "ip=192.0.2.5/24"}, "ip_config"),
    ],
)
def test_bad_batches_name_the_field(wrong, field, operator_calls, cluster):
    body = problem_of(operator_calls.post(API, {**NEW, **wrong}), 400)
    assert field in fields_of(body)
    assert not Operation.objects.exists()
