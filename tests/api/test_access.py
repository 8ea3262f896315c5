"""Who may do what: tokens, roles, projects, and IZVOR_AUTH=none."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import json
import os
import subprocess
import sys
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.actors import MEMBER, VIEWER
from accounts.models import ApiToken
from izvor_project.loopback import LoopbackOnly
from operations.models import Operation
from tests.api.shapes import Caller, problem_of, started_in_proxmox
from vms import actions

pytestmark = pytest.mark.django_db

API = "/api/v1"


# --- tokens ---


def with_header(value: str) -> Caller:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=value)
    return Caller(client)


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer izv_unknown", "Bearer a b", "Basic YTpi", "Token izv_x", "Bearer \xff"],
)
def test_without_a_usable_token_it_answers_401(header, project):
    caller = with_header(header) if header else Caller(APIClient())
    answer = caller.get(f"{API}/vms")
    problem_of(answer, 401, "unauthorized")
    assert answer["WWW-Authenticate"] == 'Bearer realm="izvor"'


@pytest.mark.parametrize("change", ["expires_at", "revoked_at"])
def test_an_expired_or_revoked_token_answers_401(change, project):
    token, text = ApiToken.objects.issue(name="ci", project=project)
    caller = with_header(f"Bearer {text}")
    assert caller.get(f"{API}/vms").status_code == 200
    before = timezone.now() - datetime.timedelta(seconds=1)
    ApiToken.objects.filter(pk=token.pk).update(**{change: before})
    problem_of(caller.get(f"{API}/vms"), 401, "unauthorized")


def test_create_token_prints_a_token_that_works_and_stores_only_its_digest(project):
    out = StringIO()
    call_command("create_token", "ci", "--role", "operator", stdout=out)
    text = out.getvalue().strip()
    assert text.startswith("izv_")
    assert with_header(f"Bearer {text}").get(f"{API}/vms").status_code == 200

    token = ApiToken.objects.get(name="ci")
    assert token.secret_hash == hashlib.sha256(text.encode()).hexdigest()
    stored = json.dumps(list(ApiToken.objects.filter(pk=token.pk).values()), default=str)
    assert text not in stored
    assert text[12:] not in stored

    with pytest.raises(CommandError, match="has a token named ci"):
        call_command("create_token", "ci", stdout=StringIO())


@pytest.mark.parametrize("name", ["", "Not A Slug", "x" * 64])
def test_create_token_refuses_a_project_that_the_admin_could_not_hold(name, project):
    with pytest.raises(CommandError, match="project"):
        call_command("create_token", "ci", "--project", name, stdout=StringIO())


def test_the_use_of_a_token_is_noted_once_a_minute(project):
    token, text = ApiToken.objects.issue(name="ci", project=project)
    caller = with_header(f"Bearer {text}")
    caller.get(f"{API}/vms")
    first = ApiToken.objects.get(pk=token.pk).last_used_at
    assert first is not None
    caller.get(f"{API}/vms")
    assert ApiToken.objects.get(pk=token.pk).last_used_at == first


NEW = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "linked": True}


# --- projects ---


def test_a_member_lists_only_its_projects_vms(callers, owned):
    seen = {
        who: [vm["id"] for vm in callers[who].get(f"{API}/vms").json()["vms"]]
        for who in ("member", "viewer", "stranger")
    }
    assert seen == {"member": ["100"], "viewer": ["100"], "stranger": ["101"]}
    everything = callers["operator"].get(f"{API}/vms").json()
    assert everything["count"] == len(everything["vms"]) == 8


@pytest.mark.parametrize("whose", ["neighbours", "nobodys"])
@pytest.mark.parametrize("by", ["vmid", "uuid"])
@pytest.mark.parametrize(
    ("method", "tail", "body"),
    [("GET", "", None), ("DELETE", "", None), ("POST", "/actions", {"action": "stop"})],
)
def test_a_vm_that_is_not_the_members_is_not_there(
    whose, by, method, tail, body, callers, owned, cluster
):
    vm = cluster.vms.get(vmid=owned[whose])
    handle = vm.vmid if by == "vmid" else vm.uuid
    problem_of(
        callers["member"].ask(method, f"{API}/vms/{handle}{tail}", body), 404, "vm_not_found"
    )
    assert callers["operator"].get(f"{API}/vms/{handle}").status_code == 200
    assert not Operation.objects.exists()


def test_filters_open_no_door_to_others(callers, owned):
    for query in ("project=neighbour", "name=db-01", "node=pve2", "search=db"):
        assert callers["member"].get(f"{API}/vms?{query}").json()["count"] == 0


@pytest.mark.parametrize("tail", ["", "/log", "/cancel"])
def test_a_task_of_another_project_is_not_there(tail, callers, owned, cluster, operator, sim):
    theirs = actions.stop_vm(vm=cluster.vms.get(vmid=101), force=True, timeout_s=60, by=operator)
    method = "POST" if tail == "/cancel" else "GET"
    answer = callers["member"].ask(method, f"{API}/tasks/{theirs.uuid}{tail}")
    problem_of(answer, 404, "task_not_found")
    assert callers["member"].get(f"{API}/tasks").json()["count"] == 0
    assert callers["stranger"].get(f"{API}/tasks").json()["count"] == 1
    assert callers["operator"].get(f"{API}/tasks").json()["count"] == 1


def test_bare_upids_are_for_operators(callers, owned, sim, cluster):
    upid = started_in_proxmox(sim)
    for who in ("viewer", "member"):
        problem_of(callers[who].get(f"{API}/tasks/{upid}"), 404, "task_not_found")
        problem_of(callers[who].get(f"{API}/tasks/{upid}/log"), 404, "task_not_found")
    body = callers["operator"].get(f"{API}/tasks/{upid}").json()
    assert body["upid"] == upid
    assert body["status"] == "stopped"
    log = callers["operator"].get(f"{API}/tasks/{upid}/log").json()["log"]
    assert log[-1]["text"] == "TASK OK"


def test_a_members_own_upid_shows_the_task_it_belongs_to(callers, owned, cluster, member_actor):
    asked = actions.stop_vm(vm=cluster.vms.get(vmid=100), force=True, timeout_s=60, by=member_actor)
    upid = "UPID:pve:0000AAAA:00BB00BB:69231234:qmstop:100:root@pam!izvor:"
    Operation.objects.filter(pk=asked.pk).update(
        steps=[{"name": "stop", "started_at": timezone.now().isoformat(), "upids": [upid]}]
    )
    body = callers["member"].get(f"{API}/tasks/{upid}").json()
    assert (body["id"], body["upid"]) == (str(asked.uuid), upid)
    problem_of(callers["stranger"].get(f"{API}/tasks/{upid}"), 404, "task_not_found")


def test_an_unpublished_template_is_for_operators(callers, cluster):
    cluster.templates.filter(vmid=9001).update(is_published=False)
    problem_of(callers["member"].get(f"{API}/templates/9001"), 404, "template_not_found")
    assert callers["operator"].get(f"{API}/templates/9001").status_code == 200
    body = {**NEW, "template": "debian-12"}
    problem_of(callers["member"].post(f"{API}/vms", body), 400, "template_not_found")


def test_a_created_vm_belongs_to_the_tokens_project(callers, cluster):
    body = callers["stranger"].post(f"{API}/vms", NEW).json()
    assert body["vm"]["project"] == "neighbour"
    problem_of(callers["member"].get(f"{API}/vms/{body['vmid']}"), 404)


# --- IZVOR_AUTH=none ---


@pytest.fixture
def without_tokens(settings: Any, project: Any) -> Caller:
    settings.IZVOR_AUTH = "none"
    return Caller(APIClient(HTTP_HOST="localhost:8082"))


def test_without_tokens_localhost_may_everything(without_tokens, cluster):
    assert without_tokens.get(f"{API}/vms").json()["count"] == 8
    answer = without_tokens.post(f"{API}/vms", NEW)
    assert answer.status_code == 202
    assert answer.json()["vm"]["project"] == "default"


def test_without_tokens_who_brings_one_is_who_it_says(without_tokens, project):
    _, text = ApiToken.objects.issue(name="viewer", project=project, role=VIEWER)
    problem_of(without_tokens.post(f"{API}/vms", NEW, Authorization=f"Bearer {text}"), 403)
    problem_of(without_tokens.get(f"{API}/vms", Authorization="Bearer izv_other"), 401)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1:8082", "[::1]:8082", "127.8.0.1", "LOCALHOST:1"]
)
def test_without_tokens_loopback_names_are_served(host, without_tokens, settings):
    settings.ALLOWED_HOSTS = ["*"]
    assert without_tokens.get(f"{API}/sizes", HOST=host).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "10.0.0.1", "x@y", "["]
)
def test_without_tokens_other_hosts_are_refused(host, without_tokens, settings):
    settings.ALLOWED_HOSTS = ["*"]
    problem_of(without_tokens.get(f"{API}/sizes", HOST=host), 403, "host_not_allowed")


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:9999", "https://localhost:8082"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_without_tokens_other_pages_are_refused(origin, method, without_tokens, cluster):
    path = f"{API}/vms" if method != "DELETE" else f"{API}/vms/100"
    answer = without_tokens.ask(method, path, NEW if method == "POST" else None, Origin=origin)
    problem_of(answer, 403, "origin_not_allowed")
    assert not Operation.objects.exists()


def test_without_tokens_our_own_pages_are_served(without_tokens):
    answer = without_tokens.get(f"{API}/sizes", Origin="http://localhost:8082")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""],
)
def test_without_tokens_form_bodies_are_refused(content_type, without_tokens, cluster):
    body = json.dumps(NEW).encode()
    answer = without_tokens.post(f"{API}/vms", body, content_type=content_type)
    problem_of(answer, 415, "not_json")
    assert not Operation.objects.exists()


def settings_check(**env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "check"],
        env={**os.environ, "IZVOR_SECRET_KEY": "x", "DJANGO_SETTINGS_MODULE": "", **env}
        | {"DJANGO_SETTINGS_MODULE": "izvor_project.settings"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.0.2.7", "pve.example.org"])
def test_without_tokens_it_refuses_to_listen_elsewhere(bind):
    ended = settings_check(IZVOR_AUTH="none", IZVOR_BIND=bind)
    assert ended.returncode != 0
    assert "IZVOR_AUTH=none" in ended.stderr
    assert bind in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("bind", ["127.0.0.1", "::1", "localhost"])
def test_without_tokens_it_listens_on_loopback(bind):
    ended = settings_check(IZVOR_AUTH="none", IZVOR_BIND=bind)
    assert ended.returncode == 0, ended.stderr


def through_loopback_only(scope: dict[str, Any]) -> list[dict[str, Any]]:
    """What LoopbackOnly sends; `passed on` where it lets the request through."""
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "passed on"})

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    asyncio.run(LoopbackOnly(app)(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("server", "client", "is_served"),
    [
        (("127.0.0.1", 8082), ("127.0.0.1", 5), True),
        (("::1", 8082), ("::1", 5), True),
        (("::ffff:127.0.0.1", 8082), ("::ffff:127.0.0.1", 5), True),
        (("192.0.2.1", 8082), ("192.0.2.9", 5), False),
        (("127.0.0.1", 8082), ("192.0.2.9", 5), False),
        (None, None, False),
    ],
)
def test_without_tokens_the_socket_itself_must_be_loopback(server, client, is_served, settings):
    settings.IZVOR_AUTH = "none"
    scope = {"type": "http", "server": server, "client": client, "headers": []}
    sent = through_loopback_only(scope)
    if is_served:
        assert sent == [{"type": "passed on"}]
        return
    headers = dict(sent[0]["headers"])
    assert sent[0]["status"] == 403
    assert headers[b"content-type"] == b"application/problem+json"
    body = json.loads(sent[1]["body"])
    assert body["code"] == "loopback_only"
    assert body["detail"] == body["error"]
    assert body["request_id"] == headers[b"x-request-id"].decode()


def test_without_tokens_a_foreign_websocket_is_closed(settings):
    settings.IZVOR_AUTH = "none"
    scope = {"type": "websocket", "server": ("192.0.2.1", 1), "client": ("192.0.2.9", 2)}
    assert through_loopback_only(scope) == [{"type": "websocket.close", "code": 1008}]


def test_with_tokens_every_socket_is_served(settings):
    settings.IZVOR_AUTH = "token"
    scope = {"type": "http", "server": ("192.0.2.1", 1), "client": ("192.0.2.9", 2)}
    assert through_loopback_only(scope) == [{"type": "passed on"}]


def test_a_members_role_is_the_default(project):
    out = StringIO()
    call_command("create_token", "ci", stdout=out)
    assert ApiToken.objects.get(name="ci").role == MEMBER


@pytest.mark.parametrize("path", ["/api/v1/nope", "/api/nope"])
def test_a_wrong_address_is_a_problem_whatever_is_sent_there(path, db):
    """As a client sends it that keeps no cookies, with Django's own check of forms in force."""
    api = APIClient(enforce_csrf_checks=True)
    problem_of(api.post(path, {}, format="json"), 404, "not_found")
    assert api.post("/health", {}, format="json").status_code == 405
