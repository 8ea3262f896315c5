"""The cast of the API's tests: a client for each role, and a neighbour with its own project."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rest_framework.test import APIClient

from accounts.actors import MEMBER, OPERATOR, VIEWER, Actor
from accounts.models import Project
from clusters.connect import forget_clients
from clusters.models import Cluster
from pve_simulator.testing import SimulatorThread
from tests.api.shapes import Caller
from tests.conftest import client_with


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
