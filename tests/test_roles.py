"""People in the admin: operators act, viewers look, others stay outside."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.management import call_command
from django.test import Client

from accounts.actors import OPERATOR, VIEWER
from accounts.models import ApiToken, Project
from accounts.people import OPERATORS, VIEWERS, actor_of_user
from events.models import Delivery, Event, record_event
from events.outbox import publish
from events.webhooks import create_webhook
from tests.admin.shapes import MODELS, page
from vms.models import Size

pytestmark = pytest.mark.django_db

# What only superusers see.
PEOPLE = {"auth.User", "auth.Group"}


@pytest.fixture
def people(project: Project) -> dict[str, User]:
    import_module("accounts.migrations.0004_seed_groups").seed(apps, None)
    call_command("sync_roles")
    found = {}
    for name, group in (("olga", OPERATORS), ("vera", VIEWERS), ("nobody", None)):
        found[name] = User.objects.create_user(name, password="a long password", is_staff=True)
        if group:
            found[name].groups.add(Group.objects.get(name=group))
    found["ana"] = User.objects.create_superuser("ana", password="a long password")
    return found


def browser_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def something(project: Project, operator: Any) -> None:
    """A row of what can be made without a cluster."""
    ApiToken.objects.issue(name="ci", project=project)
    create_webhook(url="https://1.1.1.1/", project=project, types=[], by=operator)
    publish()
    assert Delivery.objects.exists()
    assert Size.objects.exists()


def test_a_person_is_an_actor_by_their_groups(people):
    roles = {name: actor_of_user(user).role for name, user in people.items()}
    assert roles == {"ana": OPERATOR, "olga": OPERATOR, "vera": VIEWER, "nobody": VIEWER}
    actor = actor_of_user(people["olga"])
    assert (actor.name, actor.project, actor.token_id) == ("admin:olga", None, None)
    assert actor.may_write
    assert not actor_of_user(people["vera"]).may_write
    people["olga"].is_active = False
    assert actor_of_user(people["olga"]).role == VIEWER
    assert actor_of_user(AnonymousUser()).role == VIEWER


def test_the_migration_makes_the_groups_once(db):
    for _ in range(2):
        import_module("accounts.migrations.0004_seed_groups").seed(apps, None)
    groups = Group.objects.filter(name__in=[OPERATORS, VIEWERS])
    assert sorted(groups.values_list("name", flat=True)) == [OPERATORS, VIEWERS]


def test_viewers_look_at_everything_and_change_nothing(people, something):
    browser = browser_of(people["vera"])
    for model in MODELS:
        label = model._meta.label
        allowed = label not in PEOPLE
        answer = browser.get(page(model, "changelist"))
        assert (answer.status_code == 200) == allowed, label
        row = model.objects.first()
        if row is None or not allowed:
            continue
        assert browser.get(page(model, "change", row.pk)).status_code == 200, label
        before = list(model.objects.order_by("pk").values())
        for address in (
            page(model, "change", row.pk),
            page(model, "add"),
            page(model, "delete", row.pk),
        ):
            assert browser.post(address, {"post": "yes"}).status_code == 403, address
        for name in ("revoke", "redeliver", "ping", "delete_selected"):
            form = {"action": name, "_selected_action": [row.pk], "post": "yes"}
            browser.post(page(model, "changelist"), form)
        assert list(model.objects.order_by("pk").values()) == before, label


def test_operators_act_but_do_not_make_people(people, something):
    browser = browser_of(people["olga"])
    for model in MODELS:
        label = model._meta.label
        wanted = 403 if label in PEOPLE else 200
        assert browser.get(page(model, "changelist")).status_code == wanted, label
    small = Size.objects.get(name="small")
    form = {"name": "small", "cores": 3, "memory_mib": 1024, "disk_gib": 20, "description": ""}
    assert browser.post(page(Size, "change", small.pk), form).status_code == 302
    assert Event.objects.get(kind="size.changed").actor == "admin:olga"
    user = {"username": "eve", "password1": "a long password", "password2": "a long password"}
    assert browser.post(page(User, "add"), user).status_code == 403
    # Neither in a roundabout way.
    me = people["olga"]
    browser.post(page(User, "change", me.pk), {"username": "olga", "is_superuser": "on"})
    me.refresh_from_db()
    assert not me.is_superuser


def test_staff_without_a_group_are_not_let_in(people, something):
    browser = browser_of(people["nobody"])
    for model in MODELS:
        assert browser.get(page(model, "changelist")).status_code == 302, model._meta.label


def test_what_a_superuser_added_to_a_group_stays(people):
    group = Group.objects.get(name=VIEWERS)
    before = group.permissions.count()
    from django.contrib.auth.models import Permission

    extra = Permission.objects.get(codename="view_user", content_type__app_label="auth")
    group.permissions.add(extra)
    call_command("sync_roles")
    assert group.permissions.count() == before + 1


def test_every_page_is_of_one_kind():
    """Each either changes nothing, or writes events of what it changes."""
    from accounts.admin_site import ReadOnlyAdmin
    from events.admin_site import AuditedAdmin

    by_verbs = {"accounts.ApiToken", "events.Webhook"}
    for model, pages in admin.site._registry.items():
        label = model._meta.label
        assert isinstance(pages, ReadOnlyAdmin | AuditedAdmin) or label in by_verbs, label
        assert record_event is not None
