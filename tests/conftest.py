"""The tests' world: real Postgres and Redis, the simulator over TLS, and a worker one can step.

Run through `make test`, or `python -m launcher run -- python -m pytest`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from rest_framework.test import APIClient

from accounts.actors import OPERATOR, Actor
from accounts.models import ApiToken, Project
from clusters.connect import forget_clients
from clusters.models import ONLINE, SIMULATOR, Cluster
from inventory import cycle
from operations import engine, poller
from operations.models import Operation
from pve_simulator.testing import SimulatorThread

SSH_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKIxqweRN9HJs+WsxR/4j0dQKxpJb8IuNlmmyoYvnf8U izvor@test"
)


@pytest.fixture
def sim() -> Iterator[SimulatorThread]:
    """A demo cluster of its own for each test, fifty times as fast."""
    with SimulatorThread(speed=50, seed=1) as simulator:
        yield simulator
        forget_clients()


@pytest.fixture
def project(db: None) -> Project:
    """The default project; and the sizes, which a test with real transactions finds emptied."""
    for migration in (
        "accounts.migrations.0002_seed_default_project",
        "vms.migrations.0002_seed_sizes",
    ):
        import_module(migration).seed(apps, None)
    return Project.objects.get(name="default")


@pytest.fixture
def operator(project: Project) -> Actor:
    return Actor(name="token:operator", role=OPERATOR, project=project)


@pytest.fixture
def cluster(db: None, sim: SimulatorThread) -> Cluster:
    """The simulator's cluster, looked at once."""
    cluster = Cluster(
        name="demo",
        kind=SIMULATOR,
        endpoints=[sim.url],
        token_id=sim.token_id,
        ca_pem=sim.ca_file.read_text(),
    )
    cluster.secret = sim.token_secret
    cluster.save()
    cycle.look_at(cluster)
    cluster.refresh_from_db()
    assert cluster.state == ONLINE, cluster.error
    return cluster


@pytest.fixture
def api(project: Project) -> APIClient:
    """The API with an operator's token."""
    return client_with(project, OPERATOR)


def client_with(project: Project, role: str) -> APIClient:
    _, text = ApiToken.objects.issue(name=f"test {role}", project=project, role=role)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


@pytest.fixture
def work(cluster: Cluster) -> Callable[..., Operation]:
    """Do a worker's and a poller's job, in this thread, until the operation has ended."""

    def until_ended(operation: Operation | str, *, seconds: float = 30) -> Operation:
        by = {"uuid": operation} if isinstance(operation, str) else {"pk": operation.pk}
        ended: Operation = run_until(
            lambda: Operation.objects.get(**by), lambda o: o.is_ended, seconds
        )
        return ended

    return until_ended


def run_until(
    read: Callable[[], Any], is_reached: Callable[[Any], bool], seconds: float = 30
) -> Any:
    """Turns and polls, as a worker would take them, until what `read` gives is as wanted."""
    ends = time.monotonic() + seconds
    while not is_reached(found := read()):
        assert time.monotonic() < ends, f"not reached in {seconds} s: {describe(found)}"
        worked = [engine.take_turn(pk) for pk in due()]
        for pk in Cluster.objects.values_list("pk", flat=True):
            poller.poll_cluster(pk)
        if not worked:
            time.sleep(0.02)
    return found


def due() -> list[int]:
    return list(
        Operation.objects.unfinished()
        .filter(due_at__isnull=False)
        .order_by("due_at")
        .values_list("pk", flat=True)
    )


def describe(found: Any) -> str:
    if isinstance(found, Operation):
        return f"{found} {found.state} in {found.step}, waiting for {found.waiting_for!r}"
    return repr(found)


assert settings.ENGINE["call_s"] < 10, "the tests run with their own, shortened times"
