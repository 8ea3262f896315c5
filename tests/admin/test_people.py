"""Who comes in, who acts and who only looks."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from clusters.models import Cluster
from events.models import Event
from operations.models import Operation
from tests.admin.conftest import PASSWORD, log_in
from tests.admin.shapes import page, press, said, text_of
from vms.models import Size, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

LIST = "/admin/vms/virtualmachine/"


def test_a_stranger_is_asked_to_log_in(db: None) -> None:
    answer = Client().get("/admin/")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


@pytest.mark.parametrize("is_staff", [False, True])
def test_who_is_neither_operator_nor_viewer_stays_outside(groups, is_staff) -> None:
    User.objects.create_user("eve", password=PASSWORD, is_staff=is_staff)
    eve = log_in("eve")
    for address in ("/admin/", LIST, "/admin/live/", f"{LIST}live/?rows=1"):
        assert eve.get(address).status_code == 302, address


def test_an_operator_acts_under_their_own_name(operators_browser, cluster, sim, work):
    vm = VirtualMachine.objects.get(vmid=100)
    answer = press(operators_browser, "stop", vm)
    assert answer.status_code == 302
    (task,) = Operation.objects.all()
    assert (task.kind, task.by) == ("shutdown_vm", "admin:oto")
    assert Event.objects.filter(kind="task.accepted", actor="admin:oto", task=task.uuid).exists()
    assert f"/admin/operations/operation/{task.pk}/change/" in said(answer)[0]
    assert work(task).state == "succeeded"


def test_a_viewer_sees_everything_and_no_button(viewers_browser, cluster, operator):
    vm = VirtualMachine.objects.get(vmid=100)
    for address in (
        "/admin/",
        LIST,
        page(VirtualMachine, "change", vm.pk),
        "/admin/operations/operation/",
        page(Cluster, "change", cluster.pk),
        "/admin/vms/size/",
    ):
        text = text_of(viewers_browser.get(address))
        assert "formaction" not in text, address
        assert 'name="_save"' not in text, address


def test_a_viewers_press_is_refused(viewers_browser, cluster):
    vm = VirtualMachine.objects.get(vmid=100)
    answer = press(viewers_browser, "stop", vm)
    assert answer.status_code == 403
    assert "group `operators`" in answer.content.decode()
    chosen = {"action": "stop", "_selected_action": [vm.pk]}
    viewers_browser.post(LIST, chosen)
    assert not Operation.objects.exists()
    small = Size.objects.get(name="small")
    assert viewers_browser.post(page(Size, "change", small.pk), {"cores": 3}).status_code == 403


def test_viewers_and_operators_do_not_see_who_the_people_are(viewers_browser, operators_browser):
    for browser in (viewers_browser, operators_browser):
        assert browser.get("/admin/auth/user/").status_code == 403
        assert "/admin/auth/user/" not in text_of(browser.get("/admin/"))


def test_a_person_who_left_is_out_at_once(operators_browser):
    User.objects.update(is_active=False)
    assert operators_browser.get("/admin/").status_code == 302


def test_without_its_token_a_press_does_nothing(browser, cluster):
    strict = log_in("ana", enforce_csrf_checks=True)
    answer = press(strict, "stop", VirtualMachine.objects.get(vmid=100))
    assert answer.status_code == 403
    assert not Operation.objects.exists()
