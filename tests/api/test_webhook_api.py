"""Webhooks, deliveries and the audit, through the API."""

from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from django.utils import timezone

from events import outbox
from events.models import Delivery, Event, Webhook, record_event
from tests.api.shapes import fields_of, problem_of

pytestmark = pytest.mark.django_db

API = "/api/v1"
HOOK = {"url": "https://1.1.1.1/hook", "types": ["vm.*", "task.failed"], "description": "Impuls"}


def test_a_member_makes_a_webhook_whose_secret_is_shown_once(callers, project):
    answer = callers["member"].post(f"{API}/webhooks", HOOK)
    body = answer.json()
    assert answer.status_code == 201
    secret = body.pop("secret")
    assert secret.startswith("whsec_")
    assert body == {
        "id": body["id"],
        "project": "default",
        "url": HOOK["url"],
        "description": "Impuls",
        "types": ["task.failed", "vm.*"],
        "enabled": True,
        "failing_since": None,
        "created_at": body["created_at"],
    }
    webhook = Webhook.objects.get(uuid=body["id"])
    assert webhook.secret == secret
    assert secret not in webhook.sealed_secret
    for path in (f"/webhooks/{body['id']}", "/webhooks", "/audit"):
        assert secret not in callers["member"].get(API + path).content.decode()
    assert callers["member"].get(f"{API}/webhooks/{body['id']}").json() == body
    problem_of(callers["stranger"].get(f"{API}/webhooks/{body['id']}"), 404, "webhook_not_found")


def test_only_operators_hear_of_all_projects(callers, neighbour):
    body = {**HOOK, "project": None}
    problem_of(callers["member"].post(f"{API}/webhooks", body), 403, "not_allowed")
    assert callers["operator"].post(f"{API}/webhooks", body).json()["project"] is None
    body = {**HOOK, "project": "neighbour"}
    problem_of(callers["member"].post(f"{API}/webhooks", body), 400, "project_not_found")
    assert callers["operator"].post(f"{API}/webhooks", body).json()["project"] == "neighbour"
    assert callers["operator"].post(f"{API}/webhooks", HOOK).json()["project"] == "default"
    listed = {
        who: callers[who].get(f"{API}/webhooks").json()["count"]
        for who in callers
        if who != "anonymous"
    }
    assert listed == {"viewer": 1, "member": 1, "operator": 3, "stranger": 1}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": ...}, "url"),
        ({"url": "http://127.0.0.1/"}, "url"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url"),
        ({"url": "ftp://example.org/"}, "url"),
        ({"url": 7}, "url"),
        ({"url": "https://1.1.1.1/" + "x" * 2000}, "url"),
        ({"types": ["vm.stoped"]}, "types"),
        ({"types": ["vm.*,task.*"]}, "types"),
        ({"types": "vm.*"}, "types"),
        ({"types": [7]}, "types[0]"),
        ({"enabled": "yes"}, "enabled"),
        ({"secret": "mine"}, "secret"),
        ({"project": 7}, "project"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused_by_field(body, field, member_calls):
    asked = {name: value for name, value in {**HOOK, **body}.items() if value is not ...}
    assert fields_of(problem_of(member_calls.post(f"{API}/webhooks", asked), 400)) == [field]
    assert not Webhook.objects.exists()


def test_a_webhook_is_changed_switched_off_and_removed(member_calls):
    made = member_calls.post(f"{API}/webhooks", HOOK).json()
    path = f"{API}/webhooks/{made['id']}"
    new = {"url": "https://example.org/x?key=hidden", "types": [], "enabled": False}
    changed = member_calls.ask("PATCH", path, new).json()
    assert {name: changed[name] for name in new} == new
    assert changed["description"] == "Impuls"
    event = Event.objects.get(kind="webhook.changed")
    assert event.data["changed"] == ["is_enabled", "types", "url"]
    assert "hidden" not in json.dumps(event.data)
    problem_of(member_calls.ask("PATCH", path, {"project": "default"}), 400)
    problem_of(member_calls.ask("PATCH", path, {}), 400)
    problem_of(member_calls.post(f"{path}/test"), 409, "webhook_disabled")
    assert not Event.objects.filter(kind="webhook.ping").exists()
    assert member_calls.delete(path).status_code == 204
    problem_of(member_calls.get(path), 404)
    assert Event.objects.filter(kind="webhook.deleted").count() == 1


def test_a_test_event_goes_to_that_webhook_alone(member_calls, operator_calls):
    made = member_calls.post(f"{API}/webhooks", HOOK).json()
    member_calls.post(f"{API}/webhooks", {"url": HOOK["url"]})
    operator_calls.post(f"{API}/webhooks", {"url": HOOK["url"], "project": None})
    outbox.publish()
    before = Delivery.objects.count()
    answer = member_calls.post(f"{API}/webhooks/{made['id']}/test")
    assert answer.status_code == 202
    body = answer.json()
    assert (body["state"], body["attempts"]) == ("pending", 0)
    assert body["event"]["type"] == "webhook.ping"
    assert Delivery.objects.count() == before + 1
    problem_of(member_calls.post(f"{API}/webhooks/{made['id']}/test", {"now": True}), 400)


def test_deliveries_are_listed_and_asked_for_again(member_calls, project):
    made = member_calls.post(f"{API}/webhooks", HOOK).json()
    path = f"{API}/webhooks/{made['id']}/deliveries"
    for n in range(3):
        record_event("vm.missing", by="x", project_id=project.pk, label=str(n))
    outbox.publish()
    Delivery.objects.filter(event__subject_label="1").update(
        state="failed",
        next_at=None,
        ended_at=timezone.now(),
        attempts=9,
        response_status=500,
        response_body="no",
        error="The receiver answered 500.",
        duration_ms=12,
    )
    body = member_calls.get(path).json()
    assert (body["count"], len(body["deliveries"])) == (3, 3)
    (failed,) = member_calls.get(f"{path}?state=failed").json()["deliveries"]
    assert failed == {
        "id": failed["id"],
        "event": {"id": failed["event"]["id"], "type": "vm.missing"},
        "state": "failed",
        "attempts": 9,
        "next_at": None,
        "response_status": 500,
        "response_body": "no",
        "error": "The receiver answered 500.",
        "duration_ms": 12,
        "created_at": failed["created_at"],
        "ended_at": failed["ended_at"],
    }
    assert member_calls.get(f"{path}/{failed['id']}").json() == failed
    problem_of(member_calls.get(f"{path}?state=lost"), 400)
    problem_of(member_calls.get(f"{path}/{made['id']}"), 404, "delivery_not_found")
    again = member_calls.post(f"{path}/{failed['id']}/redeliver")
    assert again.status_code == 202
    assert (again.json()["id"], again.json()["state"]) == (failed["id"], "pending")
    Delivery.objects.filter(uuid=failed["id"]).update(
        lease_until=timezone.now() + datetime.timedelta(minutes=1)
    )
    answer = member_calls.post(f"{path}/{failed['id']}/redeliver")
    problem_of(answer, 409, "delivery_under_way")
    assert Event.objects.filter(kind="webhook.redelivered").count() == 1


# --- the audit ---


@pytest.fixture
def happened(project: Any, neighbour: Any, owned: Any) -> dict[str, str]:
    def tell(kind: str, label: str, **more: Any) -> None:
        record_event(kind, by="ana", label=label, **more)

    vm = "11111111-2222-4333-8444-555555555555"
    tell("vm.missing", "100 web", project_id=project.pk, subject=vm)
    tell("task.failed", "100 web", project_id=project.pk, subject=vm, error="no space")
    tell("vm.missing", "1001 db", project_id=project.pk)
    tell("vm.missing", "101 theirs", project_id=neighbour.pk)
    tell("size.changed", "small")
    Event.objects.filter(subject_label="1001 db").update(
        at=timezone.now() - datetime.timedelta(days=2)
    )
    return {"vm": vm}


def labels(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [f"{e['type']} {e['label']}" for e in answer.json()["events"] if e["by"] == "ana"]


def test_the_audit_lists_what_one_may_see_the_newest_first(callers, happened):
    ours = ["vm.missing 1001 db", "task.failed 100 web", "vm.missing 100 web"]
    assert labels(callers["member"].get(f"{API}/audit")) == ours
    assert labels(callers["viewer"].get(f"{API}/audit")) == ours
    assert labels(callers["stranger"].get(f"{API}/audit")) == ["vm.missing 101 theirs"]
    everything = ["size.changed small", "vm.missing 101 theirs", *ours]
    assert labels(callers["operator"].get(f"{API}/audit")) == everything
    first = callers["member"].get(f"{API}/audit?type=task.failed").json()["events"][0]
    assert first == {
        "id": first["id"],
        "type": "task.failed",
        "time": first["time"],
        "project": "default",
        "subject": happened["vm"],
        "label": "100 web",
        "by": "ana",
        "task": None,
        "details": {"error": "no space"},
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("type=vm.*", ["vm.missing 101 theirs", "vm.missing 1001 db", "vm.missing 100 web"]),
        ("type=task.failed,size.changed", ["size.changed small", "task.failed 100 web"]),
        ("type=task.failed&type=size.*", ["size.changed small", "task.failed 100 web"]),
        ("vm=100", ["task.failed 100 web", "vm.missing 100 web"]),
        ("subject=11111111-2222-4333-8444-555555555555&type=vm.*", ["vm.missing 100 web"]),
        ("project=neighbour", ["vm.missing 101 theirs"]),
        ("since=2020-01-01T00:00:00Z&vm=1001", ["vm.missing 1001 db"]),
        ("since=YESTERDAY&type=vm.*", ["vm.missing 101 theirs", "vm.missing 100 web"]),
    ],
)
def test_the_audit_is_filtered(query, found, operator_calls, happened):
    yesterday = (timezone.now() - datetime.timedelta(days=1)).isoformat().replace("+", "%2B")
    query = query.replace("YESTERDAY", yesterday)
    assert labels(operator_calls.get(f"{API}/audit?{query}")) == found


@pytest.mark.parametrize(
    "query", ["type=vm.x", "vm=web", "subject=7", "since=yesterday", "since=2020-01-01", "kind=x"]
)
def test_a_filter_that_is_none_is_refused(query, operator_calls):
    body = problem_of(operator_calls.get(f"{API}/audit?{query}"), 400)
    assert fields_of(body) == [query.partition("=")[0]]


def test_filters_open_no_door(callers, happened):
    assert labels(callers["member"].get(f"{API}/audit?project=neighbour")) == []
    assert labels(callers["member"].get(f"{API}/audit?vm=101")) == []


def test_pages_of_the_audit_are_cut_by_number(operator_calls, happened):
    seen, path = [], f"{API}/audit?limit=2"
    while path:
        record_event("size.changed", by="later", label="x")
        body = operator_calls.get(path).json()
        seen += [event["id"] for event in body["events"]]
        path = body["next"]
    assert seen == sorted(set(seen), reverse=True)
    assert Event.objects.filter(seq__in=seen, actor="ana").count() == 5
