"""`POST /tasks/{id}/retry`: a failed task once more, from its failed step."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db.models.functions import Now

from accounts.models import Project, Quota
from accounts.sql import rows
from operations import retrying
from operations.models import Claim, Operation
from operations.refusals import Refusal
from pve_simulator import accidents
from tests.api.shapes import Caller, problem_of
from tests.threads import at_once
from tests.vms.cast import a_vm, ask_for
from tests.waiting import wait_until
from vms import actions, quota
from vms.asked import VmChanges
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1"
NEW = {
    "name": "web",
    "template": "ubuntu-22.04",
    "linked": True,
    "cores": 2,
    "memory": 512,
    "disk_size": 30,
    "tags": ["blue"],
    "cloud_init": {"user": "ana", "password": "swordfish-7"},
}


@pytest.fixture
def calls(api) -> Caller:
    return Caller(api)


def failed_creation(calls, sim, work, **more) -> Operation:
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no room in the inn")
    body = calls.post(f"{API}/vms", {**NEW, **more}).json()
    failed: Operation = work(body["task_id"])
    assert failed.state == "failed", failed.state
    return failed


def retried(calls, failed: Operation) -> dict[str, Any]:
    answer = calls.post(f"{API}/tasks/{failed.uuid}/retry")
    assert answer.status_code == 202, answer.json()
    body: dict[str, Any] = answer.json()
    return body


def test_a_creation_that_was_undone_is_made_anew_under_its_uuid(calls, cluster, sim, work):
    failed = failed_creation(calls, sim, work)
    gone = VirtualMachine.objects.get(uuid=str(failed.subject))
    assert gone.deleted_at is not None
    body = retried(calls, failed)
    assert body["vm"]["uuid"] == str(failed.subject)
    # What the first had undone, this one has not.
    assert (failed.notes["undone"], Operation.objects.get(uuid=body["task_id"]).notes) == (True, {})
    again = work(body["task_id"])
    assert again.state == "succeeded", again.error
    assert again.retry_of == failed
    vm = calls.get(f"{API}/vms/{failed.subject}").json()
    assert (vm["status"], vm["cores"], vm["disk_size"]) == ("running", 2, 30)
    config = sim.guest(int(vm["id"])).config
    assert config["cipassword"], "the password was kept for this"
    assert Operation.objects.exclude(sealed_params="").count() == 0


def test_a_creation_that_was_kept_goes_on_at_its_failed_step(calls, cluster, sim, work):
    failed = failed_creation(calls, sim, work, keep=True)
    assert calls.get(f"{API}/vms/{failed.subject}").json()["status"] == "error"
    body = retried(calls, failed)
    sim.forget_calls()
    again = work(body["task_id"])
    assert again.state == "succeeded", again.error
    assert not sim.calls_to("POST", "/clone$")
    assert [step["name"] for step in again.steps][:2] == ["clone", "configure"]
    assert calls.get(f"{API}/vms/{failed.subject}").json()["status"] == "running"


def test_an_action_is_tried_again_on_its_vm(calls, cluster, sim, work, operator):
    vm = a_vm(sim, operator, running=False)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no room in the inn")
    failed = work(calls.post(f"{API}/vms/{vm.vmid}/actions", {"action": "start"}).json()["task_id"])
    assert failed.state == "failed"
    assert work(retried(calls, failed)["task_id"]).state == "succeeded"
    assert sim.guest(vm.vmid).is_running


def test_what_did_not_fail_or_was_retried_is_not_retried(calls, cluster, sim, work, operator):
    vm = a_vm(sim, operator)
    made = Operation.objects.get(subject=vm.uuid)
    problem_of(calls.post(f"{API}/tasks/{made.uuid}/retry"), 409, "not_failed")
    failed = failed_creation(calls, sim, work)
    body = retried(calls, failed)
    problem = problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 409, "already_retried")
    assert body["task_id"] in problem["detail"]
    work(body["task_id"])
    problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 409, "already_retried")


def test_one_whose_retry_failed_too_names_the_one_that_has_its_secrets_now(
    calls, cluster, sim, work
):
    failed = failed_creation(calls, sim, work)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no room in the inn")
    again = work(retried(calls, failed)["task_id"])
    assert again.state == "failed"
    problem = problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 409, "already_retried")
    assert str(again.uuid) in problem["detail"]
    assert work(retried(calls, again)["task_id"]).state == "succeeded"


def test_a_retry_that_is_canceled_before_it_begins_leaves_the_vm_that_was_kept(
    calls, cluster, sim, work
):
    failed = failed_creation(calls, sim, work, keep=True)
    body = retried(calls, failed)
    assert calls.post(f"{API}/tasks/{body['task_id']}/cancel").status_code == 202
    assert work(body["task_id"]).state == "canceled"
    vm = calls.get(f"{API}/vms/{failed.subject}").json()
    assert vm["status"] == "error"
    assert sim.guest(int(vm["id"])) is not None


def test_a_retried_rollback_is_within_the_quota(calls, cluster, sim, work, operator, project):
    vm = a_vm(sim, operator, running=False, cores=4)
    asked = {"name": "large", "description": ""}
    work(calls.post(f"{API}/vms/{vm.vmid}/snapshots", asked).json()["task_id"])
    work(calls.ask("PATCH", f"{API}/vms/{vm.vmid}", {"cores": 1}).json()["task_id"])
    sim.cause(accidents.fail_next_task, kind="qmrollback", text="no room in the inn")
    path = f"{API}/vms/{vm.vmid}/snapshots/large/rollback"
    failed = work(calls.post(path, {}).json()["task_id"])
    assert failed.state == "failed"
    Quota.objects.create(project=project, cores=2)
    problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 403, "quota_exceeded")


@pytest.mark.parametrize("keep", [True, False])
def test_a_vm_whose_retry_had_not_begun_is_deleted_from_the_cluster(
    calls, cluster, sim, work, keep
):
    if not keep:
        sim.cause(accidents.fail_next_task, kind="qmdestroy", text="storage is away")
    failed = failed_creation(calls, sim, work, keep=keep)
    vm = VirtualMachine.objects.get(uuid=str(failed.subject))
    assert sim.guest(vm.vmid) is not None
    retry = retried(calls, failed)["task_id"]
    deletion = calls.delete(f"{API}/vms/{vm.uuid}").json()["task_id"]
    assert (work(retry).state, work(deletion).state) == ("canceled", "succeeded")
    assert sim.guest(vm.vmid) is None


def test_a_retry_and_a_change_do_not_wait_for_each_other(
    calls, cluster, sim, work, operator, project, monkeypatch
):
    Quota.objects.create(project=project, cores=100)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no room in the inn")
    body = calls.post(f"{API}/vms", NEW).json()
    # As it was read while it was being made.
    vm = VirtualMachine.objects.select_related("cluster", "project").get(uuid=body["vm"]["uuid"])
    failed = work(body["task_id"])
    is_begun = threading.Event()

    def hold(project: Project | None) -> quota.Headroom:
        held = quota.Headroom.of(project)
        is_begun.set()
        waits = "SELECT FROM pg_locks WHERE locktype IN ('transactionid', 'tuple') AND NOT granted"
        wait_until(lambda: rows(waits), "the retry to stand behind it", 30)
        return held

    class Held(quota.Headroom):
        of = staticmethod(hold)

    monkeypatch.setattr(actions, "Headroom", Held)

    def retry() -> Operation:
        is_begun.wait(30)
        return retrying.retry(failed, by=operator)

    changes = VmChanges(cores=3)
    changed, again = at_once(lambda: actions.update_vm(vm=vm, changes=changes, by=operator), retry)
    assert isinstance(changed, Refusal), changed
    assert isinstance(again, Operation), again


def test_a_repeated_retry_with_one_key_is_one_retry(calls, cluster, sim, work):
    failed = failed_creation(calls, sim, work)
    path = f"{API}/tasks/{failed.uuid}/retry"
    first = calls.post(path, Idempotency_Key="again").json()
    second = calls.post(path, Idempotency_Key="again").json()
    assert first["task_id"] == second["task_id"]


def test_after_a_day_the_secrets_are_erased_and_it_says_so(calls, cluster, sim, work):
    failed = failed_creation(calls, sim, work)
    assert Operation.objects.get(pk=failed.pk).sealed_params
    Operation.objects.filter(pk=failed.pk).update(ended_at=Now() - retrying.WINDOW)
    retrying.erase_secrets()
    assert not Operation.objects.get(pk=failed.pk).sealed_params
    problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 409, "retry_window_over")


def test_a_retry_is_within_the_quota_too(calls, cluster, sim, work, project):
    failed = failed_creation(calls, sim, work)
    Quota.objects.create(project=project, cores=1)
    problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 403, "quota_exceeded")
    assert VirtualMachine.objects.get(uuid=str(failed.subject)).deleted_at is not None
    assert not Claim.objects.exists()


def test_a_failed_deletion_is_not_retried_once_its_vm_is_protected(
    calls, cluster, sim, operator, work
):
    vm = a_vm(sim, operator, running=False)
    sim.cause(accidents.fail_next_task, kind="qmdestroy", text="storage is away")
    body = calls.delete(f"{API}/vms/{vm.vmid}").json()
    failed = work(body["task_id"])
    assert failed.state == "failed"
    VirtualMachine.objects.filter(pk=vm.pk).update(is_protected=True)
    problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 409, "protected")
    assert sim.guest(vm.vmid) is not None


def test_growth_and_snapshots_need_room_in_the_quota_again(
    calls, cluster, sim, operator, work, project
):
    vm = a_vm(sim, operator, running=False)
    growing = work(actions.update_vm(vm=vm, changes=VmChanges(cores=3), by=operator))
    vm.refresh_from_db()
    taking = work(ask_for("take_snapshot", vm, operator)[1])
    Operation.objects.update(state="failed", error_code="timed_out", error="It took too long.")
    Operation.objects.filter(pk=growing.pk).update(
        params=growing.params | {"growth": {"cores": 2, "memory_mib": 0, "disk_bytes": 0}}
    )
    Quota.objects.create(project=project, cores=4, snapshots=1)
    for failed in (growing, taking):
        problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 403, "quota_exceeded")
    assert not Claim.objects.exists()


def test_what_failed_more_than_a_day_ago_is_asked_anew(calls, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no room in the inn")
    failed = work(actions.start_vm(vm=vm, by=operator))
    Operation.objects.filter(pk=failed.pk).update(ended_at=Now() - retrying.WINDOW)
    problem_of(calls.post(f"{API}/tasks/{failed.uuid}/retry"), 409, "retry_window_over")


def test_a_strangers_task_cannot_be_retried(callers_of, cluster, sim, work, calls):
    failed = failed_creation(calls, sim, work)
    problem_of(callers_of("stranger").post(f"{API}/tasks/{failed.uuid}/retry"), 404)
    problem_of(callers_of("viewer").post(f"{API}/tasks/{failed.uuid}/retry"), 403)


@pytest.fixture
def callers_of(project):
    from accounts.actors import MEMBER, VIEWER
    from accounts.models import Project
    from tests.conftest import client_with

    def caller(who: str) -> Caller:
        if who == "stranger":
            return Caller(client_with(Project.objects.create(name="neighbour"), MEMBER))
        return Caller(client_with(project, VIEWER))

    return caller
