"""Projects, their quotas and their tokens, through the API."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.actors import MEMBER, OPERATOR, VIEWER
from accounts.models import ApiToken, Project, Quota
from events.models import Event, Webhook
from operations.models import IdempotencyKey
from tests.api.shapes import Caller, fields_of, problem_of
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db

API = "/api/v1"


def patch(caller: Caller, path: str, body: Any, **headers: str) -> Any:
    return caller.ask("PATCH", API + path, body, **headers)


def put(caller: Caller, path: str, body: Any) -> Any:
    return caller.ask("PUT", API + path, body)


def holding(text: str) -> Caller:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return Caller(client)


def last_event(kind: str) -> Event:
    event: Event | None = Event.objects.filter(kind=kind).order_by("-pk").first()
    assert event is not None, f"no event {kind}"
    return event


# --- projects ---


def test_an_operator_makes_changes_and_removes_a_project(operator_calls):
    answer = operator_calls.post(f"{API}/projects", {"name": "shop", "description": "Our shop"})
    made = answer.json()
    assert answer.status_code == 201
    assert answer["Location"] == f"/api/v1/projects/{made['id']}"
    assert set(made) == {"id", "name", "description", "created_at"}
    assert last_event("project.created").actor == "token:test operator"

    changed = patch(operator_calls, "/projects/shop", {"name": "shop-2"}).json()
    assert (changed["id"], changed["name"]) == (made["id"], "shop-2")
    assert last_event("project.changed").data["changes"] == {"name": ["shop", "shop-2"]}
    assert operator_calls.get(f"{API}/projects/{made['id']}").json()["name"] == "shop-2"

    assert operator_calls.delete(f"{API}/projects/shop-2").status_code == 204
    problem_of(operator_calls.get(f"{API}/projects/shop-2"), 404, "project_not_found")
    assert last_event("project.deleted").subject_label == "shop-2"


def test_members_see_their_own_only(callers):
    for who, names in (
        ("operator", ["default", "neighbour"]),
        ("member", ["default"]),
        ("viewer", ["default"]),
        ("stranger", ["neighbour"]),
    ):
        for path, key in (("/projects", "name"), ("/quotas", "project")):
            body = callers[who].get(API + path).json()
            assert [one[key] for one in body[path[1:]]] == names
            assert (body["count"], body["next"]) == (len(names), None)


def test_lists_are_paged(operator_calls, neighbour):
    for path in ("/projects", "/quotas", "/tokens"):
        first = operator_calls.get(f"{API}{path}?limit=1").json()
        assert first["count"] >= 2
        following = operator_calls.get(first["next"]).json()
        assert following[path[1:]] != first[path[1:]]
        problem_of(operator_calls.get(f"{API}{path}?limits=1"), 400)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": "x", "descripton": ""}, "descripton"),
        ({"name": "x", "description": "y" * 201}, "description"),
    ],
)
def test_a_project_that_cannot_be_is_refused_by_field(body, field, operator_calls):
    assert fields_of(problem_of(operator_calls.post(f"{API}/projects", body), 400)) == [field]
    assert not Event.objects.exists()


def test_names_are_unique_and_the_default_project_stays(operator_calls, neighbour):
    body = {"name": "neighbour"}
    problem_of(operator_calls.post(f"{API}/projects", body), 409, "project_exists")
    operator_calls.post(f"{API}/projects", {"name": "shop"})
    problem_of(patch(operator_calls, "/projects/shop", body), 409, "project_exists")
    rename = patch(operator_calls, "/projects/default", {"name": "other"})
    problem_of(rename, 409, "default_project")
    problem_of(operator_calls.delete(f"{API}/projects/default"), 409, "default_project")
    assert patch(operator_calls, "/projects/default", {"description": "x"}).status_code == 200


def test_a_project_with_vms_stays_until_they_are_gone(operator_calls, owned, cluster, neighbour):
    problem_of(operator_calls.delete(f"{API}/projects/neighbour"), 409, "project_has_vms")
    VirtualMachine.objects.filter(vmid=101).update(deleted_at=timezone.now())
    ApiToken.objects.issue(name="theirs", project=neighbour)
    assert operator_calls.delete(f"{API}/projects/neighbour").status_code == 204
    assert VirtualMachine.objects.get(vmid=101).project is None
    assert not ApiToken.objects.filter(name="theirs").exists()


def test_nobody_saws_off_the_branch_they_sit_on(project, neighbour):
    _, text = ApiToken.objects.issue(name="op", project=neighbour, role=OPERATOR)
    problem_of(holding(text).delete(f"{API}/projects/neighbour"), 409, "own_project")


# --- quotas ---


def test_a_quota_shows_what_is_used_and_what_may_be(callers, owned, project):
    vm = VirtualMachine.objects.get(vmid=100)
    body = callers["member"].get(f"{API}/quotas/default").json()
    assert body == {
        "project": "default",
        "project_id": str(project.uuid),
        "vms": {"used": 1, "limit": None},
        "cores": {"used": vm.cores, "limit": None},
        "memory": {"used": vm.memory_mib, "limit": None},
        "disk": {"used": body["disk"]["used"], "limit": None},
        "snapshots": {"used": body["snapshots"]["used"], "limit": None},
    }
    assert body["disk"]["used"] > 0
    set_to = {"vms": 3, "cores": 8, "memory": 4096, "disk": 100, "snapshots": 5}
    answer = put(callers["operator"], "/quotas/default", set_to)
    assert answer.status_code == 200
    assert {name: answer.json()[name]["limit"] for name in set_to} == set_to
    quota = Quota.objects.get(project=project)
    assert (quota.memory_mib, quota.disk_gib, quota.snapshots) == (4096, 100, 5)
    assert last_event("quota.changed").data["changes"]["vms"] == [None, 3]


def test_a_patch_leaves_what_a_put_takes_away(operator_calls, project):
    put(operator_calls, "/quotas/default", {"vms": 3, "cores": 8})
    patch(operator_calls, f"/quotas/{project.uuid}", {"cores": None, "disk": 0})
    quota = Quota.objects.get(project=project)
    assert (quota.vms, quota.cores, quota.disk_gib) == (3, None, 0)
    put(operator_calls, "/quotas/default", {"cores": 1})
    quota.refresh_from_db()
    assert (quota.vms, quota.cores, quota.disk_gib) == (None, 1, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"vms": -1}, "vms"),
        ({"vms": "3"}, "vms"),
        ({"vms": True}, "vms"),
        ({"vms": 1.5}, "vms"),
        ({"vms": 2**31}, "vms"),
        ({"memory_mib": 1}, "memory_mib"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_limit_that_cannot_be_is_refused(method, body, field, operator_calls):
    answer = operator_calls.ask(method, f"{API}/quotas/default", body)
    assert fields_of(problem_of(answer, 400)) == [field]
    assert not Quota.objects.exists()


# --- tokens ---


def test_a_member_makes_a_token_that_works_and_is_shown_once(member_calls, project):
    answer = member_calls.post(f"{API}/tokens", {"name": "ci"})
    body = answer.json()
    assert answer.status_code == 201
    assert answer["Location"] == f"/api/v1/tokens/{body['id']}"
    assert (body["project"], body["role"], body["expires_at"]) == ("default", "member", None)
    text = body.pop("secret")
    assert text.startswith(body["prefix"])
    assert holding(text).get(f"{API}/vms").status_code == 200

    shown = member_calls.get(f"{API}/tokens/{body['id']}").json()
    assert set(shown) == set(body)
    assert shown["last_used_at"] is not None
    listed = member_calls.get(f"{API}/tokens").content.decode()
    assert text not in listed
    row = ApiToken.objects.get(name="ci")
    assert row.secret_hash not in listed
    event = last_event("token.created")
    assert (event.actor, event.subject) == ("token:test member", row.uuid)
    assert text[12:] not in json.dumps(event.data)


def test_members_make_no_operators_and_nothing_for_others(callers, neighbour):
    member = callers["member"]
    body = {"name": "x", "role": "operator"}
    problem_of(member.post(f"{API}/tokens", body), 403, "not_allowed")
    # They cannot know that it exists.
    body = {"name": "x", "project": "neighbour"}
    problem_of(member.post(f"{API}/tokens", body), 400, "project_not_found")
    assert callers["operator"].post(f"{API}/tokens", body).json()["project"] == "neighbour"
    body = {"name": "op", "role": "operator", "project": "default"}
    assert callers["operator"].post(f"{API}/tokens", body).status_code == 201


def test_operators_tokens_are_not_seen_by_members_of_their_project(callers, project):
    token, _ = ApiToken.objects.issue(name="op", project=project, role=OPERATOR)
    names = [one["name"] for one in callers["member"].get(f"{API}/tokens").json()["tokens"]]
    assert "op" not in names
    assert "test viewer" in names
    for method, body in (("GET", None), ("PATCH", {"name": "x"}), ("DELETE", None)):
        answer = callers["member"].ask(method, f"{API}/tokens/{token.uuid}", body)
        problem_of(answer, 404, "token_not_found")
    assert ApiToken.objects.get(pk=token.pk).revoked_at is None


def test_a_revoked_token_is_refused_at_once_and_stays_in_the_list(member_calls, project):
    made = member_calls.post(f"{API}/tokens", {"name": "ci", "role": "viewer"}).json()
    assert member_calls.delete(f"{API}/tokens/{made['id']}").status_code == 204
    problem_of(holding(made["secret"]).get(f"{API}/vms"), 401)
    assert member_calls.get(f"{API}/tokens/{made['id']}").json()["revoked_at"] is not None
    assert last_event("token.revoked").subject_label == "ci"
    assert member_calls.delete(f"{API}/tokens/{made['id']}").status_code == 204
    assert Event.objects.filter(kind="token.revoked").count() == 1
    answer = patch(member_calls, f"/tokens/{made['id']}", {"name": "again"})
    problem_of(answer, 409, "token_revoked")
    for query, count in (("true", 1), ("false", 2)):
        body = member_calls.get(f"{API}/tokens?revoked={query}").json()
        assert body["count"] == count
    # Its name is free again.
    assert member_calls.post(f"{API}/tokens", {"name": "ci"}).status_code == 201


def test_a_token_gets_an_end_and_another_name(member_calls):
    soon = (timezone.now() + datetime.timedelta(hours=1)).isoformat()
    made = member_calls.post(f"{API}/tokens", {"name": "ci", "expires_at": soon}).json()
    assert made["expires_at"] == soon.replace("+00:00", "Z")
    changed = patch(member_calls, f"/tokens/{made['id']}", {"name": "cd", "expires_at": None})
    assert (changed.json()["name"], changed.json()["expires_at"]) == ("cd", None)
    assert last_event("token.changed").data["changed"] == ["expires_at", "name"]
    assert holding(made["secret"]).get(f"{API}/vms").status_code == 200
    answer = patch(member_calls, f"/tokens/{made['id']}", {"name": "test member"})
    problem_of(answer, 409, "token_exists")


def test_no_token_outlives_the_one_that_made_it(project):
    soon = timezone.now() + datetime.timedelta(hours=1)
    _, text = ApiToken.objects.issue(name="short", project=project, role=MEMBER, expires_at=soon)
    short = holding(text)
    made: Any = json.loads(short.post(f"{API}/tokens", {"name": "child"}).content)
    assert made["expires_at"] == soon.isoformat().replace("+00:00", "Z")
    later = (soon + datetime.timedelta(seconds=1)).isoformat()
    for answer in (
        short.post(f"{API}/tokens", {"name": "longer", "expires_at": later}),
        patch(short, f"/tokens/{made['id']}", {"expires_at": later}),
    ):
        problem_of(answer, 403, "not_allowed")
    endless = patch(short, f"/tokens/{made['id']}", {"expires_at": None})
    assert endless.json()["expires_at"] == made["expires_at"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x", "role": "admin"}, "role"),
        ({"name": "x", "role": True}, "role"),
        ({"name": "x", "project": None}, "project"),
        ({"name": "x", "project": "none"}, "project"),
        ({"name": "x", "expires_at": "tomorrow"}, "expires_at"),
        ({"name": "x", "expires_at": "2000-01-01T00:00:00Z"}, "expires_at"),
        ({"name": "x", "expires_at": "2100-01-01T00:00:00"}, "expires_at"),
        ({"name": "x", "expires_at": 7}, "expires_at"),
        ({"name": "x", "secret": "izv_mine"}, "secret"),
    ],
)
def test_a_token_that_cannot_be_is_refused_by_field(body, field, member_calls):
    before = ApiToken.objects.count()
    assert fields_of(problem_of(member_calls.post(f"{API}/tokens", body), 400)) == [field]
    assert ApiToken.objects.count() == before


def test_a_viewer_reads_tokens_and_makes_none(callers):
    assert callers[VIEWER].get(f"{API}/tokens").status_code == 200
    problem_of(callers[VIEWER].post(f"{API}/tokens", {"name": "x"}), 403, "not_allowed")


# --- Idempotency-Key ---


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/projects", {"name": "shop"}),
        ("/tokens", {"name": "ci"}),
        ("/webhooks", {"url": "https://1.1.1.1/hook"}),
    ],
)
def test_sent_again_a_creation_gives_the_same_object_without_its_secret(path, body, operator_calls):
    first = operator_calls.post(API + path, body, Idempotency_Key="k1")
    again = operator_calls.post(API + path, body, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json()["id"] == first.json()["id"]
    assert "secret" not in again.json()
    assert {**again.json(), "secret": 1} == {**first.json(), "secret": 1}
    other = operator_calls.post(API + path, {**body, "name": "x"}, Idempotency_Key="k1")
    problem_of(other, 409, "idempotency_key_reused")
    row = IdempotencyKey.objects.get()
    stored = json.dumps([row.made, row.digest, row.key])
    assert str(first.json().get("secret")) not in stored


def test_sent_again_changes_and_removals_answer_as_before(operator_calls, project):
    made = operator_calls.post(f"{API}/projects", {"name": "shop"}).json()
    for _ in range(2):
        answer = patch(operator_calls, "/projects/shop", {"description": "a"}, Idempotency_Key="a")
        assert (answer.status_code, answer.json()["id"]) == (200, made["id"])
    assert Event.objects.filter(kind="project.changed").count() == 1
    for _ in range(2):
        headers = {"Idempotency_Key": "b"}
        answer = operator_calls.delete(f"{API}/projects/shop", **headers)
        assert (answer.status_code, answer.content) == (204, b"")


def test_a_refusal_is_not_kept(operator_calls):
    body = {"name": "default"}
    for _ in range(2):
        answer = operator_calls.post(f"{API}/projects", body, Idempotency_Key="k")
        problem_of(answer, 409, "project_exists")
    assert not IdempotencyKey.objects.exists()
    assert Project.objects.count() >= 1
    assert not Webhook.objects.exists()
