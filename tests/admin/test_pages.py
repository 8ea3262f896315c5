"""The admin: every page opens, operators edit what is theirs, and nothing can be broken from it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib import admin

from accounts.admin_site import ReadOnlyAdmin
from accounts.models import ApiToken, Project
from clusters.models import Cluster
from events.models import Event, record_event
from izvor_project.middleware import ADMIN_POLICY
from operations.models import Lane
from tests.admin.shapes import MODELS, many_vms, page, text_of
from tests.vms.cast import a_vm
from vms import actions
from vms.models import Size, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

# Rows that Izvor alone writes: they can be looked at.
STATE = {
    "clusters.Node",
    "clusters.Storage",
    "clusters.Network",
    "operations.Operation",
    "operations.Claim",
    "events.Delivery",
    "events.Event",
    "vms.VirtualMachine",
    "templates_app.Template",
}
NO_DELETING = STATE | {
    "operations.Lane",
    "accounts.ApiToken",
}


@pytest.fixture
def something_of_everything(cluster: Cluster, sim: Any, operator: Any) -> None:
    vm = a_vm(sim, operator, running=False)
    actions.start_vm(vm=vm, by=operator)
    ApiToken.objects.issue(name="ci", project=operator.project)


def test_every_list_and_every_row_opens(browser, something_of_everything):
    for model in MODELS:
        label = model._meta.label
        assert browser.get(page(model, "changelist")).status_code == 200, label
        assert browser.get(page(model, "changelist"), {"q": "100"}).status_code == 200, label
        row = model.objects.first()
        if row is not None:
            assert browser.get(page(model, "change", row.pk)).status_code == 200, label


def test_where_one_is_is_said_once(browser, something_of_everything):
    """An app and its model are called alike, which the theme says twice."""
    cluster = Cluster.objects.get()
    html = browser.get(page(Cluster, "change", cluster.pk)).content.decode()
    assert re.findall(r'truncate tracking-tight">([^<]+)</a>', html) == ["Clusters", "Demo"]


def test_rows_that_izvor_writes_are_known_as_such():
    """A new page must be told apart: rows that are looked at, or rows that people edit."""
    read_only = {
        model._meta.label
        for model, pages in admin.site._registry.items()
        if isinstance(pages, ReadOnlyAdmin)
    }
    assert read_only == STATE


def test_state_is_not_made_changed_or_deleted(browser, something_of_everything):
    for model in MODELS:
        label = model._meta.label
        row = model.objects.first()
        if label in NO_DELETING and row is not None:
            answer = browser.post(page(model, "delete", row.pk), {"post": "yes"})
            assert answer.status_code == 403, label
            assert model.objects.filter(pk=row.pk).exists(), label
        if label not in STATE:
            continue
        assert browser.get(page(model, "add")).status_code == 403, label
        assert browser.post(page(model, "add"), {}).status_code == 403, label
        if row is not None:
            before = model.objects.filter(pk=row.pk).values().get()
            form = dict.fromkeys(before, "1")
            assert browser.post(page(model, "change", row.pk), form).status_code == 403, label
            assert model.objects.filter(pk=row.pk).values().get() == before, label


def test_a_policy_keeps_other_peoples_scripts_out(browser):
    for address in ("/admin/", "/admin/login/", "/admin/no-such-page/"):
        assert browser.get(address)["Content-Security-Policy"] == ADMIN_POLICY
    assert "script-src 'self' 'unsafe-eval'" in ADMIN_POLICY
    assert "<script>" not in text_of(browser.get("/admin/"))
    assert browser.get("/health/live")["Content-Security-Policy"] != ADMIN_POLICY


def test_errors_are_pages_for_people(browser):
    answer = browser.get("/admin/vms/virtualmachine/do/teleport/")
    assert answer.status_code == 405
    answer = browser.get("/admin/no-such-page/")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")
    assert answer["X-Request-ID"] in answer.content.decode()
    assert browser.get("/api/v1/nothing")["Content-Type"] == "application/problem+json"


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


def test_a_size_in_use_may_go_and_its_vms_keep_their_numbers(browser, cluster):
    small = Size.objects.get(name="small")
    (vm,) = many_vms(cluster, 1, size=small)
    listed = text_of(browser.get(page(Size, "changelist")))
    assert "?size=small" in listed
    assert browser.post(page(Size, "delete", small.pk), {"post": "yes"}).status_code == 302
    vm.refresh_from_db()
    assert (vm.size, vm.cores, vm.memory_mib) == (None, 2, 2048)
    assert Event.objects.filter(kind="size.deleted", actor="admin:ana").exists()


def test_who_changed_a_size_is_in_the_audit(browser):
    small = Size.objects.get(name="small")
    form = {"name": "small", "cores": 3, "memory_mib": 1024, "disk_gib": 20, "description": ""}
    browser.post(page(Size, "change", small.pk), form)
    event = Event.objects.get(kind="size.changed")
    assert event.actor == "admin:ana"
    assert event.data["changes"]["cores"] == [1, 3]


def test_vms_are_found_by_what_an_operator_knows_of_them(browser, cluster):
    made = many_vms(cluster, 40)
    vm = made[7]

    def found(**query: str) -> int:
        answer = browser.get(page(VirtualMachine, "changelist"), query)
        assert answer.status_code == 200
        return int(answer.context["cl"].result_count)

    everything = VirtualMachine.objects.count()
    assert found() == everything
    assert found(q=str(vm.vmid)) == 1
    assert found(q=str(vm.uuid)) == 1
    assert found(q="many-7") == 1
    assert found(q="many-1 10.0.0.") == 11
    assert found(q="10.0.0.7") == 1
    assert found(q="10.0.0.") == 40
    assert found(q="'\";%_") == 0
    assert found(status="running", tag="team-2") == 2
    assert found(node="pve2", q="many") == 13
    assert found(cluster="demo") == everything
    assert found(cluster="other") == 0
    assert found(project="-") == everything
    assert found(project="default") == 0
    assert found(template="debian-12", q="many") == 20


def test_events_are_found_by_kind_person_and_time(browser, cluster):
    vm = VirtualMachine.objects.get(vmid=100)
    Event.objects.all().delete()
    record_event("vm.assigned", by="admin:ana", subject=vm.uuid, label=str(vm))
    record_event("size.changed", by="admin:oto", label="small")

    def found(**query: str) -> int:
        answer = browser.get(page(Event, "changelist"), query)
        assert answer.status_code == 200
        return int(answer.context["cl"].result_count)

    assert found() == 2
    assert found(kind="size.changed") == 1
    assert found(actor="oto") == 1
    assert found(q=str(vm.uuid)) == 1
    assert found(hours="1") == 2
    Event.objects.filter(kind="size.changed").update(at="2020-01-01T00:00:00Z")
    assert found(hours="24") == 1
    history = browser.get(page(VirtualMachine, "history", vm.pk), follow=True)
    assert "vm.assigned" in text_of(history)


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
        "new_secret": "a-planted-secret",
    }
    answer = browser.post(address, form)
    assert answer.status_code == 302, answer.content.decode()
    cluster.refresh_from_db()
    assert cluster.secret == "a-planted-secret"
    assert "a-planted-secret" not in browser.get(address).content.decode()
    assert "a-planted-secret" not in cluster.sealed_secret
    assert cluster.repairs == []
    browser.post(address, {**form, "new_secret": "", "repairs": ["R1", "R3"]})
    cluster.refresh_from_db()
    assert cluster.secret == "a-planted-secret"
    assert cluster.repairs == ["R1", "R3"]


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
