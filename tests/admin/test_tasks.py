"""The pages of tasks: why one failed, what it waits for, and what can be done about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from events.models import Event
from operations.advice import ADVICE
from operations.models import Lane, LaneTicket, Operation
from pve_simulator import accidents
from tests.admin.shapes import many_tasks, many_vms, page, press, said, text_of
from tests.vms.cast import a_new_vm
from vms import actions
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/operations/operation/"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def failed(cluster, sim, work, operator) -> Operation:
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no <b>room</b> in the inn")
    vm = VirtualMachine.objects.get(vmid=102)
    operation: Operation = work(actions.start_vm(vm=vm, by=operator))
    assert operation.state == "failed"
    return operation


def test_a_failed_task_says_why_and_what_to_do(browser, failed):
    text = text_of(browser.get(page(Operation, "change", failed.pk)))
    assert "no &lt;b&gt;room&lt;/b&gt; in the inn" in text
    assert failed.error_code in text
    assert ADVICE[failed.error_code][1] in text
    assert "qmstart" in text
    assert f"{LIST}do/retry/" in text
    assert f"{LIST}do/cancel/" not in text


def test_a_task_is_called_by_words(browser, failed):
    text = text_of(browser.get(page(Operation, "change", failed.pk)))
    assert text.count(f"Start {failed.subject_label}") >= 2, "in the title and above the page"
    assert "start_vm" not in text.split("<body", 1)[1].split("Asked for", 1)[0]


def test_a_failed_task_is_tried_again_once(browser, failed, work):
    answer = press(browser, "retry", failed)
    again = failed.retries.get()
    assert again.by == "admin:ana"
    assert page(Operation, "change", again.pk) in said(answer)[0]
    assert "was retried" in said(press(browser, "retry", failed))[-1]
    assert work(again).state == "succeeded"
    shown = text_of(browser.get(page(Operation, "change", failed.pk)))
    assert page(Operation, "change", again.pk) in shown
    assert "do/retry/" not in shown
    assert "It retries" in text_of(browser.get(page(Operation, "change", again.pk)))


def test_a_task_is_canceled_by_a_press_and_by_no_link(browser, cluster, operator):
    _, task = actions.create_vm(asked=a_new_vm(), by=operator)
    assert browser.get(page(Operation, "do", "cancel")).status_code == 405
    text = text_of(browser.get(page(Operation, "change", task.pk)))
    assert "do/cancel/" in text
    press(browser, "cancel", task)
    task.refresh_from_db()
    assert task.cancel_by == "admin:ana"
    assert Event.objects.filter(kind="task.cancel_requested", actor="admin:ana").exists()
    assert "canceling" in text_of(browser.get(page(Operation, "change", task.pk)))


def test_one_that_cannot_be_canceled_says_so(browser, failed):
    assert "has failed already" in said(press(browser, "cancel", failed))[0]


def test_proxmoxs_own_lines_are_read_when_asked_for(browser, failed, sim):
    text = text_of(browser.get(page(Operation, "log", failed.pk)))
    assert "TASK ERROR" in text
    assert "&lt;b&gt;room" in text
    sim.stop()
    assert "cannot be read now" in text_of(browser.get(page(Operation, "log", failed.pk)))


def test_a_page_is_told_when_its_task_has_ended(browser, cluster, operator, work):
    vm = VirtualMachine.objects.get(vmid=102)
    task = actions.start_vm(vm=vm, by=operator)
    live = page(Operation, "live", task.pk)
    assert browser.get(live).json()["again_in_s"] == 2
    work(task)
    body = browser.get(live).json()
    assert body["again_in_s"] is None
    assert "succeeded" in body["parts"]["state"]
    assert "do/cancel/" not in body["parts"]["buttons"]


def test_tasks_are_found_by_what_they_are(browser, cluster, failed):
    many_tasks(many_vms(cluster, 10))

    def found(**query: str) -> int:
        text = text_of(browser.get(LIST, query))
        return len(set(re.findall(r"/admin/operations/operation/(\d+)/change/", text)))

    assert found() == 11
    assert found(state="failed") == 3
    assert found(state="unfinished") == 2
    assert found(kind="start_vm", state="running") == 2
    assert found(q=str(failed.uuid)) == 1
    assert found(q=failed.steps[0]["upids"][0]) == 1
    assert found(q="cache-01") == 1
    assert found(q="room in the inn") == 3
    assert found(hours="1") == 11


def test_a_task_of_a_newer_version_does_not_break_the_pages(browser, cluster, failed):
    Operation.objects.filter(pk=failed.pk).update(
        kind="teleport_vm", state="running", ended_at=None
    )
    for address in ("/admin/", LIST, page(Operation, "change", failed.pk)):
        assert "Teleport" in text_of(browser.get(address)), address


def test_every_code_has_its_advice_as_the_manual_has_it():
    manual = (ROOT / "docs" / "operations.md").read_text()
    table = manual.split("## When a task failed")[1].split("\n## ")[0]
    rows = [line.strip("| \n").split(" | ") for line in table.splitlines() if "| `" in line]
    told = {
        code: (happened, what_to_do)
        for codes, happened, what_to_do in rows
        for code in re.findall(r"`(\w+)`", codes)
    }
    assert told == ADVICE


def test_every_code_in_the_code_has_its_advice():
    """What steps fail with, and what the engine itself does."""
    sources = [*ROOT.glob("operations/*.py"), *ROOT.glob("vms/**/*.py")]
    text = "\n".join(path.read_text() for path in sources)
    raised = set(re.findall(r'StepFailed\(\s*"(\w+)"', text))
    raised |= set(re.findall(r'ending\.(?:fail|end)\([^"]*?"(\w+)"', text))
    assert len(raised) > 8
    assert not raised - {"canceled"} - ADVICE.keys()


def test_lanes_say_who_is_through_and_who_waits_by_one_query(
    browser, cluster, django_assert_max_num_queries
):
    tasks = many_tasks(many_vms(cluster, 20))
    lanes = [Lane.objects.create(cluster=cluster, key=f"node:pve{n}") for n in range(20)]
    LaneTicket.objects.bulk_create(
        LaneTicket(lane=lane, operation=tasks[n], is_through=n < 2)
        for lane in lanes
        for n in range(5)
    )
    with django_assert_max_num_queries(12):
        text = text_of(browser.get("/admin/operations/lane/"))
    assert text.count("node:pve") >= 20
    assert re.search(r"field-waiting[^>]*>3<", text)
