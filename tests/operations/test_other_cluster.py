"""A cluster's address changes hands: nothing is done on the one that answers there now."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clusters.connect import forget_clients
from clusters.models import ONLINE, REFUSED, Cluster
from inventory import cycle
from pve_simulator.testing import SimulatorThread
from tests.api.shapes import problem_of
from tests.inventory.looking import look
from tests.operations.hostile import turn_now
from tests.vms.cast import a_new_vm, a_vm, ask_for
from vms import actions

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def other() -> Iterator[SimulatorThread]:
    """With the same names, nodes, VMs and templates; only its CA tells that it is another."""
    with SimulatorThread(speed=50, seed=2) as simulator:
        yield simulator
        forget_clients()


def hand_over(cluster: Cluster, sim: SimulatorThread) -> None:
    cluster.refresh_from_db()
    cluster.endpoints, cluster.ca_pem = [sim.url], sim.ca_file.read_text()
    cluster.token_id, cluster.secret = sim.token_id, sim.token_secret
    cluster.save()


def written_on(sim: SimulatorThread) -> list[str]:
    return [call.path for call in sim.calls if call.method != "GET"]


@pytest.mark.parametrize("was_looked_at", [True, False])
def test_a_task_waits_until_its_own_cluster_answers(
    was_looked_at, cluster, sim, other, operator, work
):
    _, operation = actions.create_vm(asked=a_new_vm(start_on_create=False), by=operator)
    hand_over(cluster, other)
    if was_looked_at:
        cycle.look_at(cluster)
        assert cluster.state == REFUSED
    found = turn_now(operation)
    assert found.waiting_for.startswith("demo to answer at its address: ")
    assert "is now the cluster" in found.waiting_for
    assert written_on(other) == []
    hand_over(cluster, sim)
    turn_now(found)
    assert work(found).state == "succeeded"


def test_a_task_under_way_believes_nothing_that_the_other_says(cluster, sim, other, operator):
    vm = a_vm(sim, operator)
    _, operation = ask_for("migrate_vm", vm, operator)
    under_way = turn_now(operation)
    assert under_way.upid
    hand_over(cluster, other)
    found = turn_now(operation)
    assert (found.state, found.upid) == ("running", under_way.upid)
    assert "is now the cluster" in found.waiting_for


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("post", "vms/100/actions", {"action": "stop"}),
        ("post", "vms", {"name": "web", "template": "ubuntu-22.04"}),
        ("patch", "vms/100", {"cores": 2}),
        ("delete", "vms/100", None),
        ("delete", "templates/9001", None),
        ("post", "vms/100/snapshots", {"name": "before"}),
    ],
)
def test_nothing_new_is_accepted(method, path, body, api, cluster, other):
    hand_over(cluster, other)
    cycle.look_at(cluster)
    answer = getattr(api, method)(f"/api/v1/{path}", body, format="json")
    assert "is now the cluster" in problem_of(answer, 503, "cluster_unavailable")["detail"]
    assert written_on(other) == []


def test_a_token_that_sees_too_little_stops_no_task(cluster, sim, operator, work):
    """Refused by inventory, for what the task may not need."""
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    Cluster.objects.filter(pk=cluster.pk).update(state=REFUSED, error="it lacks a privilege")
    assert work(operation).state == "succeeded"
    assert look(cluster).state == ONLINE
