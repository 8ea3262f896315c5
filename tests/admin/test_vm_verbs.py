"""What operators do to VMs: the API's own actions, one task each, refusals in their own words."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Project
from events.models import Event
from operations.models import Operation
from pve_simulator.testing import SimulatorThread
from tests.admin.shapes import many_vms, page, press, said, text_of
from tests.conftest import run_until
from tests.vms.cast import a_vm, another_node, finish
from vms import actions
from vms.admin.verbs import VERBS
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/vms/virtualmachine/"


def vm_of(vmid: int) -> VirtualMachine:
    vm: VirtualMachine = VirtualMachine.objects.get(vmid=vmid, deleted_at=None)
    return vm


def only_task() -> Operation:
    (task,) = Operation.objects.unfinished()
    return task


def test_no_verb_is_done_by_a_link(browser, cluster):
    vm = vm_of(100)
    for verb in VERBS:
        answer = browser.get(page(VirtualMachine, "do", verb.name), {"_selected_action": vm.pk})
        assert answer.status_code == 405, verb.name
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    ("vmid", "verb", "kind"),
    [
        (102, "start", "start_vm"),
        (100, "stop", "shutdown_vm"),
        (100, "reboot", "reboot_vm"),
        (105, "resume", "resume_vm"),
    ],
)
def test_a_button_becomes_one_task(browser, cluster, work, vmid, verb, kind):
    answer = press(browser, verb, vm_of(vmid))
    assert answer.status_code == 302
    task = only_task()
    assert (task.kind, task.by, task.subject) == (kind, "admin:ana", vm_of(vmid).uuid)
    assert work(task).state == "succeeded"


@pytest.mark.parametrize(("verb", "kind"), [("force_stop", "stop_vm"), ("delete", "delete_vm")])
def test_what_cannot_be_taken_back_is_asked_first(browser, cluster, work, verb, kind):
    vm = vm_of(100)
    text = text_of(press(browser, verb, vm))
    assert str(vm) in text
    assert not Operation.objects.exists()
    assert press(browser, verb, vm, sure="yes").status_code == 302
    task = only_task()
    assert task.kind == kind
    assert work(task).state == "succeeded"


def test_many_at_once_are_a_task_each_and_refusals_have_their_sentence(browser, cluster):
    chosen = [vm_of(100), vm_of(102), vm_of(103)]
    body = {"action": "stop", "_selected_action": [vm.pk for vm in chosen]}
    answer = browser.post(LIST, body)
    assert answer.status_code == 302
    started = {task.subject_label for task in Operation.objects.unfinished()}
    assert started == {str(chosen[0]), str(chosen[2])}
    done, refused = said(answer)
    assert done.count("/admin/operations/operation/") == 2
    assert "VM 102 cache-01 is stopped; stop needs it to be paused or running" in refused


def test_a_busy_vm_is_refused_naming_the_task(browser, cluster):
    press(browser, "stop", vm_of(100))
    task = only_task()
    answer = press(browser, "reboot", vm_of(100))
    assert str(task.uuid) in said(answer)[-1]
    assert only_task() == task


def test_more_than_a_page_of_vms_is_no_button_press(browser, cluster):
    rows = many_vms(cluster, 101)
    answer = press(browser, "stop", *rows)
    assert said(answer) == ["Choose at most 100."]
    assert not Operation.objects.exists()


def test_a_vm_moves_to_a_node_that_is_chosen_from_those_that_are_up(browser, cluster, sim, work):
    vm = vm_of(100)
    text = text_of(press(browser, "migrate", vm))
    assert f'<option value="{vm.node}"' not in text
    target = another_node(vm)
    assert f'<option value="{target}"' in text
    assert text_of(press(browser, "migrate", vm, node="nowhere")).count("iz-error")
    assert not Operation.objects.exists()
    assert press(browser, "migrate", vm, node=target).status_code == 302
    task = only_task()
    assert (task.kind, task.params["node"]) == ("migrate_vm", target)


def test_snapshots_are_taken_rolled_back_and_deleted(browser, cluster, sim, work, operator):
    vm = a_vm(sim, operator, running=False)
    assert "Give 2 to 40 letters" in text_of(press(browser, "snapshot", vm, name="1"))
    press(browser, "snapshot", vm, name="before", description="the upgrade")
    assert work(only_task()).state == "succeeded"
    shown = text_of(browser.get(page(VirtualMachine, "change", vm.pk)))
    assert "before" in shown
    assert "the upgrade" in shown
    assert "do/rollback/?snapshot=before" in shown
    assert "is lost" in text_of(press(browser, "rollback", vm))
    press(browser, "rollback", vm, snapshot="before", start="on")
    task = only_task()
    assert task.params["start"] is True
    assert work(task).state == "succeeded"
    press(browser, "delete_snapshot", vm, snapshot="before")
    assert work(only_task()).state == "succeeded"
    assert not vm.snapshots.exists()


def test_a_vm_is_given_to_a_project_and_taken_back(browser, cluster):
    vm = vm_of(100)
    Project.objects.create(name="other")
    assert said(press(browser, "assign", vm, project="other")) == [
        "<b>100 web-01</b>: belongs to other now."
    ]
    assert str(vm_of(100).project) == "other"
    press(browser, "assign", vm, project="")
    assert vm_of(100).project is None
    events = Event.objects.filter(kind="vm.assigned", actor="admin:ana")
    assert [event.data["now"] for event in events.order_by("pk")] == ["other", None]


def test_a_protected_vm_is_not_deleted(browser, cluster):
    vm = vm_of(102)
    press(browser, "protect", vm)
    assert vm_of(102).is_protected
    answer = press(browser, "delete", vm, sure="yes")
    assert "is protected" in said(answer)[-1]
    press(browser, "unprotect", vm)
    assert not vm_of(102).is_protected
    assert not Operation.objects.exists()


def test_what_cluster_and_database_differ_about_is_mended_by_a_press(browser, cluster, work):
    (gone,) = many_vms(cluster, 1, missing_since=timezone.now())
    press(browser, "forget", gone, sure="yes")
    gone.refresh_from_db()
    assert gone.deleted_at is not None
    vm = vm_of(102)
    assert "bears no mark" in said(press(browser, "adopt", vm, project="default"))[-1]
    VirtualMachine.objects.filter(pk=vm.pk).update(marked_as=uuid.uuid4())
    press(browser, "adopt", vm, project="default")
    assert work(only_task()).state == "succeeded"
    adopted = vm_of(102)
    assert (adopted.is_ours, str(adopted.project)) == (True, "default")


def test_buttons_are_those_that_the_state_allows(browser, cluster):
    def offered(vmid: int) -> set[str]:
        text = text_of(browser.get(page(VirtualMachine, "change", vm_of(vmid).pk)))
        return {verb.name for verb in VERBS if f"/do/{verb.name}/" in text}

    assert {"stop", "reboot"} <= offered(100)
    assert "start" not in offered(100)
    assert "start" in offered(102)
    assert not {"stop", "reboot"} & offered(102)
    press(browser, "stop", vm_of(100))
    assert not {"stop", "reboot", "start"} & offered(100)


def test_a_cluster_that_is_away_is_a_sentence_not_an_error_page(browser, cluster, sim, operator):
    vm = vm_of(102)
    sim.stop()
    answer = press(browser, "start", vm)
    assert answer.status_code == 302
    shown = text_of(browser.get(page(VirtualMachine, "change", vm.pk)))
    assert "102" in shown
    usage = text_of(browser.get(page(VirtualMachine, "usage", vm.pk)))
    assert "Proxmox does not tell" in usage


def test_the_way_back_leads_to_our_own_pages_only(browser, cluster):
    vm = vm_of(100)
    body: dict[str, Any] = {"_selected_action": [vm.pk], "back": "https://evil.example/"}
    answer = browser.post(page(VirtualMachine, "do", "protect"), body)
    assert answer["Location"] == LIST
    answer = browser.post(
        page(VirtualMachine, "do", "unprotect"), {**body, "back": f"{LIST}?status=running"}
    )
    assert answer["Location"] == f"{LIST}?status=running"


def test_a_pages_parts_follow_a_task_until_it_ends(browser, cluster, sim: SimulatorThread):
    vm = vm_of(100)
    live = page(VirtualMachine, "live", vm.pk)
    assert browser.get(live).json()["again_in_s"] == 10
    press(browser, "stop", vm)
    body = browser.get(live).json()
    assert body["again_in_s"] == 2
    assert "stopping" in body["parts"]["state"]
    assert "csrfmiddlewaretoken" not in str(body)
    task = only_task()
    run_until(lambda: Operation.objects.get(pk=task.pk), lambda task: task.is_ended)
    body = browser.get(live).json()
    assert body["again_in_s"] == 10
    assert "stopped" in body["parts"]["state"]
    assert "do/start/" in body["parts"]["buttons"]
    listed = browser.get(f"{LIST}live/?rows={vm.pk}").json()
    assert "stopped" in listed["parts"][f"status-{vm.pk}"]


def test_a_deleted_vms_page_stays_for_those_who_follow_a_task(browser, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    finish(actions.delete_vm(vm=vm, by=operator))
    answer = browser.get(f"{LIST}uuid/{vm.uuid}/", follow=True)
    text = text_of(answer)
    assert "deleted" in text
    assert "formaction" not in text
    assert f">{vm.vmid}<" not in text_of(browser.get(LIST))


def test_charts_are_drawn_from_what_proxmox_measured(browser, cluster):
    text = text_of(browser.get(page(VirtualMachine, "usage", vm_of(100).pk), {"timeframe": "day"}))
    assert text.count("<svg") == 4
    assert "<script" not in text
    other = browser.get(page(VirtualMachine, "usage", vm_of(100).pk), {"timeframe": "century"})
    assert other.status_code == 404
