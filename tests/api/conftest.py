"""The cast of the API's tests: a client for each role, and a neighbour with its own project."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from rest_framework.test import APIClient

from accounts.actors import MEMBER, OPERATOR, VIEWER, Actor
from accounts.models import ApiToken, Project
from clusters.connect import forget_clients
from clusters.models import Cluster
from events import outbox, webhooks
from events.models import Event
from operations.models import Claim, Operation
from pve_simulator.testing import SimulatorThread
from tests.api.shapes import Caller
from tests.api.table import HOOK
from tests.conftest import client_with
from vms import actions
from vms.models import VirtualMachine


@pytest.fixture(scope="module")
def sim() -> Iterator[SimulatorThread]:
    """One for each module: these tests ask much and change little."""
    with SimulatorThread(speed=50, seed=1) as simulator:
        yield simulator
        forget_clients()


@pytest.fixture
def neighbour(project: Project) -> Project:
    return Project.objects.create(name="neighbour")


@pytest.fixture
def member_actor(project: Project) -> Actor:
    return Actor(name="token:member", role=MEMBER, project=project)


@pytest.fixture
def callers(project: Project, neighbour: Project) -> dict[str, Caller]:
    """By role; `stranger` is a member of another project, `anonymous` has no token."""
    clients = {role: client_with(project, role) for role in (VIEWER, MEMBER, OPERATOR)}
    clients["stranger"] = client_with(neighbour, MEMBER)
    clients["anonymous"] = APIClient()
    return {name: Caller(client) for name, client in clients.items()}


@pytest.fixture
def operator_calls(callers: dict[str, Caller]) -> Caller:
    return callers[OPERATOR]


@pytest.fixture
def member_calls(callers: dict[str, Caller]) -> Caller:
    return callers[MEMBER]


@pytest.fixture
def owned(cluster: Cluster, project: Project, neighbour: Project) -> dict[str, int]:
    """Of the demo cluster's VMs: ours is 100, the neighbour's 101; 102 and on are nobody's."""
    cluster.vms.filter(vmid=100).update(project=project)
    cluster.vms.filter(vmid=101).update(project=neighbour)
    return {"ours": 100, "neighbours": 101, "nobodys": 102}


@pytest.fixture
def unchanged(cluster: Cluster, sim: Any) -> Iterator[None]:
    """No row and no call that changes anything comes out of the test."""
    before = list(VirtualMachine.objects.order_by("pk").values())
    events = Event.objects.count()
    sim.forget_calls()
    yield
    assert list(VirtualMachine.objects.order_by("pk").values()) == before
    assert not Operation.objects.exists()
    assert not Claim.objects.exists()
    assert Event.objects.count() == events
    assert [call for call in sim.calls if call.method != "GET"] == []


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
