"""Whoever changes something is named in the audit, in the transaction of the change."""

from __future__ import annotations

import ast
import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, User
from django.db.models import F
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, Project, Quota
from clusters.environment import register_from_environment
from clusters.models import Cluster
from events import outbox, retention
from events.kinds import KINDS, is_known
from events.models import Delivery, Event, Webhook, record_event
from events.tasks import clean
from events.webhooks import create_webhook
from operations.enqueue import request_cancel
from operations.models import IdempotencyKey, Lane
from operations.tasks import clean as clean_operations
from templates_app.models import Template
from tests.admin.shapes import page, press
from tests.inventory.test_clusters import env_for
from vms import actions
from vms.models import Size, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(django_settings.BASE_DIR)
PACKAGES = (
    "accounts",
    "events",
    "clusters",
    "operations",
    "templates_app",
    "vms",
    "inventory",
    "access",
    "izvor_project",
)


@pytest.fixture
def browser(project: Project) -> Client:
    User.objects.create_superuser("ana", password="a long password")
    client = Client()
    assert client.login(username="ana", password="a long password")
    return client


def one(kind: str) -> Event:
    """The only event of this kind; ana's."""
    event: Event = Event.objects.get(kind=kind)
    assert event.actor == "admin:ana"
    return event


# --- every kind is known ---


def calls_of_record_event() -> list[ast.expr]:
    """The first argument of each call in our code."""
    found = []
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "record_event":
                    found.append(node.args[0])
    return found


def test_every_kind_that_is_written_is_listed():
    written = calls_of_record_event()
    assert len(written) > 10
    for kind in written:
        for text in [node for node in ast.walk(kind) if isinstance(node, ast.Constant)]:
            if isinstance(kind, ast.JoinedStr):
                assert any(str(text.value) in known for known in KINDS), text.value
            elif isinstance(kind, ast.Constant | ast.IfExp):
                assert text.value in KINDS, text.value


def test_every_kind_is_documented_and_no_other():
    text = (ROOT / "docs" / "events.md").read_text()
    table = re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", text, re.MULTILINE)
    assert sorted(table) == sorted(KINDS)


@pytest.mark.parametrize(
    ("pattern", "is_one"),
    [
        *((known, True) for known in ("*", "vm.*", "vm.missing")),
        *((no, False) for no in ("vm.", "*.*", "vms.*", "vm.mis*", "", ".*", "vm")),
    ],
)
def test_patterns_are_kinds_or_all_of_a_noun(pattern, is_one):
    assert is_known(pattern) is is_one


# --- the admin ---


def test_sizes(browser):
    small = Size.objects.get(name="small")
    form = {"name": "small", "cores": 3, "memory_mib": 1024, "disk_gib": 20, "description": ""}
    assert browser.post(page(Size, "change", small.pk), form).status_code == 302
    changes = {"cores": [1, 3], "description": ["For a small site", ""]}
    assert one("size.changed").data == {"changes": changes}
    assert one("size.changed").subject_label == "small"
    assert browser.post(page(Size, "add"), {**form, "name": "new"}).status_code == 302
    assert one("size.created").subject_label == "new"
    new = Size.objects.get(name="new")
    browser.post(page(Size, "delete", new.pk), {"post": "yes"})
    assert one("size.deleted").subject_label == "new"
    # The list's own way to delete is another.
    some = [Size.objects.get(name=name).pk for name in ("micro", "nano")]
    form = {"action": "delete_selected", "_selected_action": some, "post": "yes"}
    browser.post(page(Size, "changelist"), form)
    deleted = Event.objects.filter(kind="size.deleted").values_list("subject_label", flat=True)
    assert sorted(deleted) == ["micro", "nano", "new"]


def test_saving_without_a_change_is_no_event(browser):
    small = Size.objects.get(name="small")
    form = {
        "name": "small",
        "cores": small.cores,
        "memory_mib": small.memory_mib,
        "disk_gib": small.disk_gib,
        "description": small.description,
    }
    before = Event.objects.count()
    assert browser.post(page(Size, "change", small.pk), form).status_code == 302
    assert Event.objects.count() == before


def test_a_vm_given_away_and_protected(browser, cluster):
    vm = VirtualMachine.objects.get(vmid=100)
    other = Project.objects.create(name="other")
    press(browser, "assign", vm, project=other.name)
    press(browser, "protect", vm)
    given = one("vm.assigned")
    assert (given.subject, given.project, given.data) == (
        vm.uuid,
        other,
        {"was": None, "now": "other"},
    )
    assert one("vm.protection_changed").data == {"was": "False", "now": "True"}


def test_a_cluster_and_its_secret(browser, cluster):
    form = {
        "name": "renamed",
        "is_enabled": "on",
        "endpoints": ",".join(cluster.endpoints),
        "user": cluster.user,
        "token_id": cluster.token_id,
        "ca_pem": cluster.ca_pem,
        "vmid_min": 100,
        "vmid_max": cluster.vmid_max,
        "new_secret": "a-planted-secret",
    }
    assert browser.post(page(Cluster, "change", cluster.pk), form).status_code == 302
    changes = one("cluster.changed").data["changes"]
    assert changes.pop("new_secret") == "changed"
    assert changes["name"] == ["demo", "renamed"]
    assert "a-planted-secret" not in json.dumps(list(Event.objects.values()), default=str)


def test_templates_lanes_and_lists_that_are_edited_in_place(browser, cluster):
    template = Template.objects.get(vmid=9001)
    assert press(browser, "hide", template).status_code == 302
    assert one("template.changed").data["changes"] == {"is_published": [True, False]}
    lane = Lane.objects.create(cluster=cluster, key="node:pve", limit=4)
    form = {
        "form-TOTAL_FORMS": 1,
        "form-INITIAL_FORMS": 1,
        "form-0-id": lane.pk,
        "form-0-limit": 9,
        "_save": "Save",
    }
    browser.post(page(Lane, "changelist"), form)
    assert one("lane.changed").data["changes"] == {"limit": [4, 9]}


def test_projects_quotas_and_members(browser, project):
    other = Project.objects.create(name="other")
    ApiToken.objects.issue(name="theirs", project=other)
    user = User.objects.get(username="ana")
    form = {
        "name": "other",
        "description": "changed",
        "quota-TOTAL_FORMS": 1,
        "quota-INITIAL_FORMS": 0,
        "quota-0-project": other.pk,
        "quota-0-vms": 7,
        "quota-0-snapshots": 2,
        "memberships-TOTAL_FORMS": 1,
        "memberships-INITIAL_FORMS": 0,
        "memberships-0-project": other.pk,
        "memberships-0-user": user.pk,
        "memberships-0-role": "viewer",
    }
    answer = browser.post(page(Project, "change", other.pk), form)
    assert answer.status_code == 302, answer.content.decode()
    changed = one("project.changed")
    assert changed.project == other
    assert changed.data["changes"] == {"description": ["", "changed"]}
    assert "added ana in other: viewer" in changed.data["related"]
    quota = one("quota.changed")
    assert quota.data["changes"] == {"vms": [None, 7], "snapshots": [None, 2]}
    assert Quota.objects.get(project=other).snapshots == 2
    browser.post(page(Project, "delete", other.pk), {"post": "yes"})
    assert one("project.deleted").subject_label == "other"
    assert not Project.objects.filter(name="other").exists()


def test_tokens(browser, project):
    form = {"name": "deploy", "project": project.pk, "role": "member"}
    browser.post(page(ApiToken, "add"), form)
    token = ApiToken.objects.get(name="deploy")
    assert one("token.created").subject == token.uuid
    browser.post(page(ApiToken, "change", token.pk), {"name": "renamed"})
    assert one("token.changed").data["changed"] == ["name"]
    past = {"name": "renamed", "expires_at_0": "2020-01-01", "expires_at_1": "00:00"}
    assert browser.post(page(ApiToken, "change", token.pk), past).status_code == 200
    form = {"action": "revoke", "_selected_action": [token.pk]}
    browser.post(page(ApiToken, "changelist"), form)
    assert one("token.revoked").subject == token.uuid
    assert browser.post(page(ApiToken, "change", token.pk), {"name": "x"}).status_code == 403


def test_people_and_their_passwords(browser):
    form = {"username": "eve", "password1": "a long password", "password2": "a long password"}
    form["usable_password"] = "true"
    answer = browser.post(page(User, "add"), form)
    assert answer.status_code == 302, answer.content.decode()
    assert one("user.created").subject_label == "eve"
    eve = User.objects.get(username="eve")
    form = {"password1": "another long one", "password2": "another long one"}
    form["usable_password"] = "true"
    answer = browser.post(f"/admin/auth/user/{eve.pk}/password/", form)
    assert answer.status_code == 302, answer.content.decode()
    assert one("user.changed").data["changes"] == {"password": "changed"}
    group = Group.objects.create(name="testers")
    joined = eve.date_joined
    more = {"date_joined_0": joined.date(), "date_joined_1": joined.time()}
    person = {"username": "eve", "groups": [group.pk], **more}
    answer = browser.post(page(User, "change", eve.pk), person)
    assert answer.status_code == 302, answer.content.decode()
    changes = Event.objects.filter(kind="user.changed").order_by("-pk")[0].data["changes"]
    assert changes["groups"] == [[], ["testers"]]
    browser.post(page(Group, "change", group.pk), {"name": "renamed"})
    assert one("group.changed").data["changes"] == {"name": ["testers", "renamed"]}
    browser.post(page(User, "delete", eve.pk), {"post": "yes"})
    assert one("user.deleted").subject_label == "eve"
    told = json.dumps(list(Event.objects.values()), default=str)
    assert "long" not in told
    assert "md5$" not in told


def test_webhooks_are_made_with_a_secret_that_is_shown_once(browser, project):
    form = {"url": "https://1.1.1.1/", "project": project.pk, "types": "vm.*", "is_enabled": "on"}
    answer = browser.post(page(Webhook, "add"), form, follow=True)
    (shown,) = [str(m) for m in answer.context["messages"] if "whsec_" in str(m)]
    webhook = Webhook.objects.get()
    secret = webhook.secret
    assert secret in shown
    assert (webhook.project, webhook.types) == (project, ["vm.*"])
    assert one("webhook.created").subject == webhook.uuid
    address = page(Webhook, "change", webhook.pk)
    assert secret not in browser.get(address).content.decode()
    browser.post(address, {"url": "https://1.1.1.1/", "types": "vm.*"})
    assert one("webhook.changed").data["is_enabled"] is False
    for bad in ({"url": "http://127.0.0.1/"}, {"types": "vm.stoped"}):
        answer = browser.post(address, {**form, **bad})
        assert answer.status_code == 200
    browser.post(address, form)
    form = {"action": "ping", "_selected_action": [webhook.pk]}
    browser.post(page(Webhook, "changelist"), form)
    outbox.publish()
    assert webhook.deliveries.filter(event__kind="webhook.ping").count() == 1
    browser.post(page(Webhook, "delete", webhook.pk), {"post": "yes"})
    assert one("webhook.deleted").subject == webhook.uuid


def test_deliveries_are_asked_for_again_by_a_post(browser, project, operator):
    webhook, _ = create_webhook(url="https://1.1.1.1/", project=None, types=[], by=operator)
    outbox.publish()
    delivery = webhook.deliveries.get()
    Delivery.objects.update(state="failed", next_at=None, ended_at=timezone.now())
    form = {"action": "redeliver", "_selected_action": [delivery.pk]}
    browser.post(page(Delivery, "changelist"), form)
    delivery.refresh_from_db()
    assert delivery.state == "pending"
    assert one("webhook.redelivered").data["delivery"] == str(delivery.uuid)


# --- elsewhere ---


def test_a_cluster_from_the_environment(sim, project, settings):
    settings.PROXMOX = env_for(sim)
    register_from_environment()
    register_from_environment()
    assert Event.objects.get(kind="cluster.created").actor == "izvor"
    assert not Event.objects.filter(kind="cluster.changed").exists()
    settings.PROXMOX = {**settings.PROXMOX, "node": "pve2"}
    register_from_environment()
    assert Event.objects.get(kind="cluster.changed").data == {"changed": ["preferred_node"]}


def test_who_asks_a_task_to_stop(cluster, operator):
    vm = cluster.vms.get(vmid=100)
    task = actions.take_snapshot(vm=vm, name="s1", description="", include_ram=False, by=operator)
    request_cancel(task, by=operator)
    event = Event.objects.get(kind="task.cancel_requested")
    assert (event.actor, event.task, event.subject) == (operator.name, task.uuid, vm.uuid)


def test_a_change_that_is_undone_leaves_no_event(browser, monkeypatch):
    """They are of one transaction: the page fails after the change, and both are gone."""
    browser.raise_request_exception = False
    small = Size.objects.get(name="small")
    form = {"name": "small", "cores": 3, "memory_mib": 1024, "disk_gib": 20, "description": ""}

    def fail(*args: Any, **more: Any) -> None:
        raise RuntimeError("after the change")

    monkeypatch.setattr("vms.admin.SizeAdmin.log_change", fail)
    assert browser.post(page(Size, "change", small.pk), form).status_code == 500
    small.refresh_from_db()
    assert small.cores == 1
    assert not Event.objects.filter(kind="size.changed").exists()


# --- forgetting ---


def test_what_is_old_is_forgotten_with_its_deliveries(project, operator, settings, monkeypatch):
    monkeypatch.setattr(retention, "PIECE", 10)
    webhook, _ = create_webhook(url="https://1.1.1.1/", project=None, types=[], by=operator)
    for _ in range(25):
        record_event("size.changed", by="old")
    outbox.publish()
    long_ago = datetime.timedelta(days=settings.EVENTS["keep_days"], seconds=1)
    Event.objects.filter(actor="old").update(at=F("at") - long_ago)
    record_event("size.changed", by="new")
    outbox.publish()
    clean()
    assert list(Event.objects.order_by("pk").values_list("kind", flat=True)) == [
        "webhook.created",
        "size.changed",
    ]
    assert webhook.deliveries.count() == 2


def test_idempotency_keys_are_forgotten_after_a_day(project):
    for key, hours in (("old", 25), ("new", 23)):
        row = IdempotencyKey.objects.create(caller="x", key=key, digest="d", status=201)
        at = timezone.now() - datetime.timedelta(hours=hours)
        IdempotencyKey.objects.filter(pk=row.pk).update(created_at=at)
    clean_operations()
    assert [row.key for row in IdempotencyKey.objects.all()] == ["new"]
