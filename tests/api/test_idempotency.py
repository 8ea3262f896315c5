"""Idempotency-Key: the same request again gets the first one's result."""

from __future__ import annotations

from functools import partial

import pytest

from accounts.actors import MEMBER
from operations import idempotency
from operations.models import IdempotencyKey, Operation
from operations.refusals import Conflict
from tests.conftest import client_with
from tests.threads import at_once
from tests.vms.cast import a_vm
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

WEB = {"name": "web", "template": "ubuntu-22.04", "linked": True, "size": "nano"}


def create(api, key, body=WEB, **headers):
    return api.post("/api/v1/vms", body, headers={"Idempotency-Key": key, **headers})


def test_the_same_key_makes_one_vm(api, cluster, work):
    first, again = create(api, "k1"), create(api, "k1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["task_id"] == again.json()["task_id"]
    assert first.json()["vmid"] == again.json()["vmid"]
    assert Operation.objects.count() == 1
    assert work(first.json()["task_id"]).state == "succeeded"
    later = create(api, "k1")
    assert (later.status_code, later.json()["vm"]["status"]) == (202, "running")


def test_another_body_under_the_same_key_is_a_conflict(api, cluster):
    create(api, "k1")
    answer = create(api, "k1", {**WEB, "name": "other"})
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
    assert VirtualMachine.objects.filter(template_name="ubuntu-22.04").count() == 1


def test_the_order_of_the_fields_is_no_other_body(api, cluster):
    first = create(api, "k1")
    again = create(api, "k1", dict(reversed(WEB.items())))
    assert again.json()["task_id"] == first.json()["task_id"]


def test_a_refusal_is_not_kept(api, cluster):
    assert create(api, "k1", {**WEB, "size": "none"}).status_code == 400
    assert not IdempotencyKey.objects.exists()
    assert create(api, "k1").status_code == 202


def test_a_dry_run_does_not_look_at_its_key(api, cluster, work):
    key = {"Idempotency-Key": "k1"}
    dry = "/api/v1/vms?dry_run=true"
    assert api.post(dry, WEB, headers=key).json()["dry_run"] is True
    assert not IdempotencyKey.objects.exists()
    first = create(api, "k1")
    assert first.status_code == 202
    for body in (WEB, {**WEB, "name": "other"}):
        answer = api.post(dry, body, headers=key)
        assert (answer.status_code, answer.json()["dry_run"]) == (200, True)
    assert create(api, "k1").json()["task_id"] == first.json()["task_id"]


def test_another_token_has_its_own_keys(api, cluster, project):
    first = create(api, "k1")
    other = create(client_with(project, MEMBER), "k1")
    assert other.json()["task_id"] != first.json()["task_id"]


def test_while_the_first_is_under_way_the_second_is_told_so(api, cluster, operator):
    answers = at_once(*[partial(create, api, "k1")] * 8)
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert {a.json()["code"] for a in answers if a.status_code == 409} <= {"in_progress"}
    assert Operation.objects.count() == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\there", "ž"])
def test_a_key_that_is_none_is_refused(api, cluster, key):
    answer = create(api, key)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "Idempotency-Key")


def test_deletes_and_actions_too(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    path = f"/api/v1/vms/{vm.uuid}"
    stop = {"action": "stop", "force": True}
    key = {"Idempotency-Key": "a"}
    first = api.post(f"{path}/actions", stop, headers=key).json()
    assert api.post(f"{path}/actions", stop, headers=key).json()["task_id"] == first["task_id"]
    work(first["task_id"])
    key = {"Idempotency-Key": "b"}
    gone = api.delete(path, headers=key).json()
    assert api.delete(path, headers=key).json()["task_id"] == gone["task_id"]
    work(gone["task_id"])
    assert api.delete(path, headers=key).json()["task_id"] == gone["task_id"]


def test_a_repeated_cancel_is_answered_as_the_first_was(api, cluster, work):
    task = create(api, "make").json()["task_id"]
    path, key = f"/api/v1/tasks/{task}/cancel", {"Idempotency-Key": "cancel"}
    assert api.post(path, headers=key).status_code == 202
    assert work(task).state == "canceled"
    assert api.post(path, headers=key).json()["task_id"] == task
    answer = api.post(path)
    assert answer.status_code == 409
    assert f"Task {task} was canceled already." == answer.json()["detail"]


def test_what_is_done_at_once_is_noted_once(cluster):
    """The first one's connection was cut at its commit, and the repetition found no result yet."""
    with idempotency.carrying(idempotency.Asked(caller="ci", key="key", digest="digest")):
        idempotency.note_done(201, "token:1")
        with pytest.raises(Conflict) as refused:
            idempotency.note_done(201, "token:2")
    assert refused.value.code == "in_progress"
    assert IdempotencyKey.objects.get().made == "token:1"
