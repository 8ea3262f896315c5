"""The admin: every page opens, operators edit what is theirs, and nothing can be broken from it."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from accounts.models import ApiToken, Project
from clusters.models import Cluster
from events.models import Event
from operations.models import Lane, Operation
from tests.vms.cast import a_vm
from vms import actions, console
from vms.models import Size, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

MODELS: list[Any] = sorted(admin.site._registry, key=lambda model: model._meta.label)
# Rows that Izvor alone writes: they can be looked at.
STATE = {
    "clusters.Node",
    "clusters.Storage",
    "clusters.Network",
    "operations.Operation",
    "operations.Claim",
    "events.Event",
}
NO_DELETING = STATE | {
    "vms.VirtualMachine",
    "templates_app.Template",
    "operations.Lane",
    "accounts.ApiToken",
}


@pytest.fixture
def browser(project: Project) -> Client:
    User.objects.create_superuser("ana", password="a long password")
    client = Client()
    assert client.login(username="ana", password="a long password")
    return client


def page(model: Any, name: str, *args: Any) -> str:
    meta = model._meta
    return reverse(f"admin:{meta.app_label}_{meta.model_name}_{name}", args=args)


@pytest.fixture
def something_of_everything(cluster: Cluster, sim: Any, operator: Any) -> None:
    vm = a_vm(sim, operator, running=False)
    actions.start_vm(vm=vm, by=operator)
    ApiToken.objects.issue(name="ci", project=operator.project)


def test_a_stranger_is_asked_to_log_in(db: None) -> None:
    answer = Client().get("/admin/")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/admin/login/")


def test_a_person_who_is_no_staff_stays_outside(db: None) -> None:
    User.objects.create_user("eve", password="a long password")
    client = Client()
    client.login(username="eve", password="a long password")
    assert client.get("/admin/vms/virtualmachine/").status_code == 302


def test_every_list_and_every_row_opens(browser, something_of_everything):
    for model in MODELS:
        label = model._meta.label
        assert browser.get(page(model, "changelist")).status_code == 200, label
        assert browser.get(page(model, "changelist"), {"q": "100"}).status_code == 200, label
        row = model.objects.first()
        if row is not None:
            assert browser.get(page(model, "change", row.pk)).status_code == 200, label


def test_state_is_not_made_changed_or_deleted(browser, something_of_everything):
    for model in MODELS:
        label = model._meta.label
        row = model.objects.first()
        if label in NO_DELETING and row is not None:
            answer = browser.post(page(model, "delete", row.pk), {"post": "yes"})
            assert answer.status_code == 403, label
            assert model.objects.filter(pk=row.pk).exists(), label
        if label in STATE:
            assert browser.get(page(model, "add")).status_code == 403, label
            if row is not None:
                assert browser.post(page(model, "change", row.pk), {}).status_code == 403, label


def test_the_default_project_and_a_cluster_with_vms_stay(browser, something_of_everything):
    for row in (Project.objects.get(name="default"), Cluster.objects.get()):
        answer = browser.post(page(type(row), "delete", row.pk), {"post": "yes"})
        assert answer.status_code == 403


def test_a_size_is_edited_and_its_bounds_are_kept(browser):
    small = Size.objects.get(name="small")
    address = page(Size, "change", small.pk)
    form = {"name": "small", "cores": 3, "memory_mib": 3072, "disk_gib": 30, "description": ""}
    assert browser.post(address, form).status_code == 302
    small.refresh_from_db()
    assert (small.cores, small.memory_mib, small.disk_gib) == (3, 3072, 30)
    answer = browser.post(address, {**form, "cores": 1000})
    assert answer.status_code == 200
    assert "less than or equal to 128" in answer.content.decode()


def test_a_vm_is_given_to_a_project_and_nothing_else_of_it_changes(browser, cluster, sim, operator):
    vm = VirtualMachine.objects.get(vmid=100)
    VirtualMachine.objects.filter(pk=vm.pk).update(power="stopped", name="renamed-meanwhile")
    other = Project.objects.create(name="other")
    form = {"project": other.pk, "is_protected": "on", "name": "x", "power": "running"}
    assert browser.post(page(VirtualMachine, "change", vm.pk), form).status_code == 302
    vm.refresh_from_db()
    assert (vm.project, vm.is_protected) == (other, True)
    assert (vm.name, vm.power) == ("renamed-meanwhile", "stopped")


def test_a_clusters_secret_goes_in_and_never_comes_out(browser, cluster):
    address = page(Cluster, "change", cluster.pk)
    form = {
        "name": cluster.name,
        "is_enabled": "on",
        "endpoints": ",".join(cluster.endpoints),
        "user": cluster.user,
        "token_id": cluster.token_id,
        "ca_pem": cluster.ca_pem,
        "vmid_min": 100,
        "vmid_max": 999,
        "new_secret": "a planted secret",
    }
    answer = browser.post(address, form)
    assert answer.status_code == 302, answer.content.decode()
    cluster.refresh_from_db()
    assert cluster.secret == "a planted secret"
    assert "a planted secret" not in browser.get(address).content.decode()
    assert "a planted secret" not in cluster.sealed_secret
    browser.post(address, {**form, "new_secret": ""})
    cluster.refresh_from_db()
    assert cluster.secret == "a planted secret"


def test_a_cluster_without_a_secret_or_with_a_bad_address_is_refused(browser):
    form = {"name": "new", "endpoints": "http://pve:8006", "user": "root@pam", "vmid_min": 100}
    answer = browser.post(page(Cluster, "add"), {**form, "vmid_max": 99})
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "must be like https://" in text
    assert "cannot be asked without it" in text
    assert not Cluster.objects.filter(name="new").exists()


def test_a_token_is_shown_once(browser, project):
    form = {"name": "deploy", "project": project.pk, "role": "member"}
    answer = browser.post(page(ApiToken, "add"), form, follow=True)
    shown = [str(m) for m in answer.context["messages"] if "izv_" in str(m)]
    assert len(shown) == 1
    text = shown[0].rsplit(" ", 1)[1]
    found = ApiToken.objects.find(text)
    assert found is not None
    assert found.name == "deploy"
    assert text not in browser.get(page(ApiToken, "change", found.pk)).content.decode()


def test_a_task_is_canceled_from_its_page_or_says_why_not(browser, something_of_everything):
    operation = Operation.objects.unfinished().get()
    address = reverse("admin:operations_operation_cancel", args=[operation.pk])
    answer = browser.get(address, follow=True)
    assert "cannot be canceled" in answer.content.decode()


def test_a_lanes_limit_is_edited(browser, something_of_everything):
    lane = Lane.objects.first()
    assert lane is not None
    answer = browser.post(page(Lane, "change", lane.pk), {"limit": 0})
    assert answer.status_code == 200
    lane.refresh_from_db()
    assert lane.limit > 0
    assert browser.post(page(Lane, "change", lane.pk), {"limit": 9}).status_code == 302
    lane.refresh_from_db()
    assert lane.limit == 9


# --- the console ---


def console_of(vm: VirtualMachine) -> str:
    return reverse("admin:vms_virtualmachine_console", args=[vm.pk])


def test_the_console_opens_by_a_button_and_not_by_a_link(browser, cluster):
    vm = VirtualMachine.objects.get(vmid=100)
    text = browser.get(page(VirtualMachine, "change", vm.pk)).content.decode()
    assert f'<form method="post" action="{console_of(vm)}" target="_blank" rel="noopener"' in text
    assert browser.get(console_of(vm)).status_code == 405
    assert not Event.objects.filter(kind="console.minted").exists()
    answer = browser.post(console_of(vm))
    assert answer.status_code == 302
    address, _, ticket = answer["Location"].partition("#")
    assert address == "/console"
    visit = console.redeem(ticket)
    assert (visit.vm, visit.by.name) == (vm, "admin:ana")
    assert Event.objects.get(kind="console.minted").actor == "admin:ana"


def test_another_sites_form_opens_none(cluster, browser):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(User.objects.get(username="ana"))
    answer = strict.post(console_of(VirtualMachine.objects.get(vmid=100)))
    assert answer.status_code == 403
    assert not Event.objects.filter(kind="console.minted").exists()


def test_a_stopped_vm_has_no_button_and_says_why_there_is_no_console(browser, cluster):
    vm = VirtualMachine.objects.filter(power="stopped").first()
    assert vm is not None
    text = browser.get(page(VirtualMachine, "change", vm.pk)).content.decode()
    assert console_of(vm) not in text
    answer = browser.post(console_of(vm), follow=True)
    assert "its console needs it to be running" in answer.content.decode()


def test_staff_who_are_no_operators_get_no_console(cluster):
    eve = User.objects.create_user("eve", password="a long password", is_staff=True)
    eve.user_permissions.set(Permission.objects.filter(content_type__app_label="vms"))
    vm = VirtualMachine.objects.get(vmid=100)
    client = Client()
    client.force_login(eve)
    text = client.get(page(VirtualMachine, "change", vm.pk)).content.decode()
    assert console_of(vm) not in text
    assert client.post(console_of(vm)).status_code == 403
