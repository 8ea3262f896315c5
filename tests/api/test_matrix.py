"""Every route, asked by everybody, about what is theirs, another project's and nobody's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import transaction
from django.urls import resolve
from django.utils import timezone

from accounts.actors import MEMBER, OPERATOR
from accounts.models import ApiToken, Project
from events import outbox, webhooks
from izvor_project.api import routes
from tests.api.shapes import problem_of
from vms import actions

pytestmark = pytest.mark.django_db

API = "/api/v1"
ROLES = ("anonymous", "viewer", "member", "operator")
OWNERS = ("own", "others", "nobodys")
NEW_VM = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "linked": True}
IMAGE = {"name": "new", "url": "https://images.example/x.qcow2"}
HOOK = {"url": "https://192.0.2.1/hook"}


@dataclass(frozen=True)
class Row:
    """A route, and what those get who may use it: `member` of what is theirs, `operator` of
    everything, by whose it is where that matters. `only` is the one role that may."""

    method: str
    path: str
    member: int = 200
    body: Any = None
    operator: int | dict[str, int] = field(default=0)
    only: str = ""
    # A GET that does something: not for viewers.
    acts: bool = False

    def expected(self, role: str, whose: str) -> int:
        if role == "anonymous":
            return 401
        if role == "operator":
            wanted = self.operator or self.member
            return wanted[whose] if isinstance(wanted, dict) else wanted
        if self.only or (role == "viewer" and self.method != "GET"):
            return 403
        if "{" in self.path and whose != "own":
            return 404
        return 403 if role == "viewer" and self.acts else self.member


ROWS = [
    Row("GET", "/vms"),
    Row("POST", "/vms", 202, NEW_VM),
    Row("GET", "/vms/{vm}"),
    Row("DELETE", "/vms/{vm}", 202),
    Row("PATCH", "/vms/{vm}", 200, {"metadata": {"a": "b"}}),
    Row("PUT", "/vms/{vm}", 200, {"metadata": {"a": "b"}}),
    Row("POST", "/vms/{vm}/actions", 202, {"action": "snapshot", "snapshot_name": "s1"}),
    Row("GET", "/vms/{vm}/metrics"),
    # The third does not run.
    Row(
        "GET",
        "/vms/{vm}/console",
        operator={"own": 200, "others": 200, "nobodys": 409},
        acts=True,
    ),
    Row("GET", "/vms/{vm}/snapshots"),
    Row("POST", "/vms/{vm}/snapshots", 202, {"name": "s1"}),
    Row("DELETE", "/vms/{vm}/snapshots/never", 404),
    Row("POST", "/vms/{vm}/snapshots/never/rollback", 404, {}),
    Row("GET", "/vms/sizes"),
    Row("GET", "/sizes"),
    Row("GET", "/sizes/small"),
    Row(
        "POST",
        "/sizes",
        201,
        {"name": "new", "cores": 1, "memory": 256, "disk_size": 1},
        only="operator",
    ),
    Row("PATCH", "/sizes/small", 200, {"cores": 3}, only="operator"),
    Row("DELETE", "/sizes/small", 204, only="operator"),
    Row("GET", "/templates"),
    Row("GET", "/templates/9000"),
    Row("POST", "/templates", 202, IMAGE, only="operator"),
    Row("DELETE", "/templates/9001", 202, only="operator"),
    Row("POST", "/templates/9002/copies", 202, {"node": "pve"}, only="operator"),
    Row("GET", "/tasks"),
    Row("GET", "/tasks/{task}"),
    Row("GET", "/tasks/{task}/log"),
    # It has not begun.
    Row("POST", "/tasks/{task}/cancel", 202),
    # It has not failed.
    Row("POST", "/tasks/{task}/retry", 409),
    Row("GET", "/nodes"),
    Row("GET", "/nodes/pve"),
    Row("GET", "/nodes/pve/storage"),
    Row("GET", "/nodes/pve/networks"),
    Row("GET", "/nodes/pve/metrics", only="operator"),
    Row("GET", "/storage"),
    Row("GET", "/isos"),
    Row("GET", "/images"),
    Row("GET", "/clusters"),
    Row("GET", "/cluster/status"),
    Row("GET", "/cluster/resources"),
    Row("GET", "/projects"),
    Row("POST", "/projects", 201, {"name": "new"}, only="operator"),
    Row("GET", "/projects/{project}"),
    Row("PATCH", "/projects/{project}", 200, {"description": "x"}, only="operator"),
    # The default one stays, and the neighbour has a VM.
    Row(
        "DELETE",
        "/projects/{project}",
        operator={"own": 409, "others": 409, "nobodys": 204},
        only="operator",
    ),
    Row("GET", "/quotas"),
    Row("GET", "/quotas/{project}"),
    Row("PUT", "/quotas/{project}", 200, {"vms": 3}, only="operator"),
    Row("PATCH", "/quotas/{project}", 200, {"vms": 3}, only="operator"),
    Row("GET", "/tokens"),
    Row("POST", "/tokens", 201, {"name": "new"}),
    Row("GET", "/tokens/{token}"),
    Row("PATCH", "/tokens/{token}", 200, {"name": "renamed"}),
    Row("DELETE", "/tokens/{token}", 204),
    Row("GET", "/webhooks"),
    Row("POST", "/webhooks", 201, HOOK),
    Row("GET", "/webhooks/{webhook}"),
    Row("PATCH", "/webhooks/{webhook}", 200, {"description": "x"}),
    Row("DELETE", "/webhooks/{webhook}", 204),
    Row("POST", "/webhooks/{webhook}/test", 202),
    Row("GET", "/webhooks/{webhook}/deliveries"),
    Row("GET", "/webhooks/{webhook}/deliveries/{delivery}"),
    Row("POST", "/webhooks/{webhook}/deliveries/{delivery}/redeliver", 202),
    Row("GET", "/audit"),
    Row("GET", "/events"),
]


@pytest.fixture
def things(settings, cluster, owned, project, neighbour, operator) -> dict[str, dict[str, str]]:
    """Of each kind one that is ours, one that is the neighbour's, one that is nobody's (of us)."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "allow_private": True}
    empty = Project.objects.create(name="empty")
    found: dict[str, dict[str, str]] = {}
    for whose, vmid, theirs, heard in (
        ("own", 100, project, project),
        ("others", 101, neighbour, neighbour),
        ("nobodys", 102, empty, None),
    ):
        # On another VM: while a task runs on one, no other may begin.
        busy = cluster.vms.get(vmid=vmid + 3)
        busy.project = cluster.vms.get(vmid=vmid).project
        busy.save(update_fields=["project"])
        task = actions.take_snapshot(
            vm=busy, name="kept", description="", include_ram=False, by=operator
        )
        token, _ = ApiToken.objects.issue(name="asked for", project=theirs, role=MEMBER)
        webhook, _ = webhooks.create_webhook(
            url=HOOK["url"], project=heard, types=["webhook.ping"], by=operator
        )
        webhooks.ping_webhook(webhook, by=operator)
        outbox.publish()
        found[whose] = {
            "vm": str(vmid),
            "task": str(task.uuid),
            "project": theirs.name,
            "token": str(token.uuid),
            "webhook": str(webhook.uuid),
            "delivery": str(webhook.deliveries.get().uuid),
        }
    return found


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.method} {row.path}" for row in ROWS])
def test_each_may_what_the_contract_says(row, things, callers):
    wrong = []
    for role in ROLES:
        for whose in OWNERS if "{" in row.path else OWNERS[:1]:
            with transaction.atomic():
                path = API + row.path.format(**things[whose])
                answer = callers[role].ask(row.method, path, row.body)
                transaction.set_rollback(True)
            wanted = row.expected(role, whose)
            if answer.status_code != wanted:
                wrong.append((role, whose, wanted, answer.status_code, answer.content[:300]))
            elif wanted >= 400:
                problem_of(answer, wanted)
    assert not wrong


def test_the_table_names_every_route():
    """Each path of the API, with each of its methods, stands in ROWS: a new one cannot escape."""
    some = dict.fromkeys(("vm", "task", "project", "token", "webhook", "delivery"), "x")
    asked = {(resolve(API + row.path.format(**some)).url_name, row.method.lower()) for row in ROWS}
    served = {
        (getattr(pattern, "name", None), method)
        for pattern in routes.urlpatterns
        for method in pattern.callback.actions  # type: ignore[union-attr]
        if method != "head"
    }
    assert asked == served
    assert len(ROWS) == len({(row.method, row.path) for row in ROWS})


def test_what_is_not_there_is_not_there_for_operators_either(callers, project):
    nobody = "11111111-2222-4333-8444-555555555555"
    for path in (
        f"/vms/{nobody}",
        f"/tasks/{nobody}",
        f"/projects/{nobody}",
        "/projects/none",
        f"/quotas/{nobody}",
        f"/tokens/{nobody}",
        "/tokens/not-a-uuid",
        f"/webhooks/{nobody}",
        f"/webhooks/{nobody}/deliveries",
    ):
        problem_of(callers[OPERATOR].get(API + path), 404)


def test_an_expired_operator_is_nobody(callers, project):
    ApiToken.objects.filter(role=OPERATOR).update(expires_at=timezone.now())
    problem_of(callers[OPERATOR].get(f"{API}/vms"), 401)
