"""Many creations on a storage that takes few allocations at a time: all wait, none fails."""

from __future__ import annotations

import datetime
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models.functions import Now

from clusters.models import Cluster
from operations import engine, lanes, poller, queue
from operations.bodies import task_body
from operations.enqueue import request_cancel
from operations.models import SUCCEEDED, Lane, LaneTicket, Operation
from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from tests.conftest import due, run_until
from tests.threads import at_once
from tests.vms.cast import a_new_vm
from vms import actions
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

POSITION = re.compile(r"a place in lane (\S+) \(limit (\d+)\): position (\d+)")


def carry_all(sim: SimulatorThread, threads: int = 4) -> int:
    """Workers and a poller until all have ended; returns the most clones seen at once."""
    most = 0

    def turn(pk: int) -> None:
        try:
            engine.take_turn(pk)
        finally:
            connection.close()

    def all_ended() -> bool:
        nonlocal most
        most = max(most, sum(task.is_running for task in sim.tasks("qmclone")))
        return Operation.objects.unfinished().count() == 0

    with ThreadPoolExecutor(threads) as pool:
        while not all_ended():
            list(pool.map(turn, due()))
            for pk in Cluster.objects.values_list("pk", flat=True):
                poller.poll_cluster(pk)
    return most


def create(count: int, operator: Any) -> list[Operation]:
    asked = a_new_vm("many", count=count, memory_mib=256, start_on_create=False)
    return [operation for _, operation in actions.create_vms(asked=asked, by=operator)]


def test_who_waits_says_for_which_lane_and_at_which_position(cluster, sim, operator):
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=60)
    Lane.objects.create(cluster=cluster, key="storage:ceph", limit=2)
    asked = create(8, operator)

    def waiting() -> list[tuple[str, str, str]]:
        texts = Operation.objects.values_list("waiting_for", flat=True)
        return sorted((m[1], m[2], m[3]) for text in texts if (m := POSITION.match(text)))

    found = run_until(waiting, lambda lines: len(lines) >= len(asked) - 2)
    assert {(lane, limit) for lane, limit, _ in found} == {("storage:ceph", "2")}
    assert [place for _, _, place in found] == [str(n) for n in range(1, len(asked) - 1)]
    # Who leaves calls the next: the others look again the more rarely, the further back they are.
    waits = Operation.objects.filter(waiting_for__startswith="a place").order_by("due_at")
    texts = waits.values_list("waiting_for", flat=True)
    places = [int(match[3]) for text in texts if (match := POSITION.match(text))]
    assert places == sorted(places)


@pytest.fixture
def in_line(cluster, sim, operator) -> list[Operation]:
    """Four, in their order, that wait for two who clone for minutes."""
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=3000)
    lane, _ = Lane.objects.update_or_create(
        cluster=cluster, key="storage:ceph", defaults={"limit": 2}
    )
    create(6, operator)
    waiting = LaneTicket.objects.filter(lane=lane, is_through=False)
    run_until(waiting.count, lambda count: count == 4)
    # Nobody's own clock leads them on.
    Operation.objects.update(due_at=Now() + datetime.timedelta(hours=1))
    return [ticket.operation for ticket in waiting.order_by("operation_id")]


@pytest.fixture
def sent(monkeypatch) -> list[tuple[int, int]]:
    """Operations that were hinted at, and with which priority."""
    found: list[tuple[int, int]] = []

    def keep(task: str, pk: int, *, priority: int = queue.BEGUN, **_: Any) -> None:
        if task == "operations.turn":
            found.append((pk, priority))

    monkeypatch.setattr(queue, "send", keep)
    return found


@pytest.fixture
def cloning(cluster, sim, operator, sent) -> list[Operation]:
    """Two that clone for minutes, where no third may."""
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=3000)
    for node in cluster.nodes.all():
        Lane.objects.create(cluster=cluster, key=f"node:{node.name}", limit=8)
    Lane.objects.create(cluster=cluster, key="storage:ceph", limit=2)
    asked = create(2, operator)
    assert sent == [(operation.pk, queue.NOT_BEGUN) for operation in asked]
    run_until(
        Operation.objects.filter(upid__gt="", state="running").count, lambda count: count == 2
    )
    sent.clear()
    return asked


def test_who_is_accepted_where_the_lane_is_full_stands_there_and_takes_no_turn(
    cloning, operator, sent
):
    third, fourth = create(2, operator)
    for position, operation in enumerate((third, fourth), 1):
        assert (
            operation.waiting_for == f"a place in lane storage:ceph (limit 2): position {position}"
        )
        operation.refresh_from_db()
        assert (operation.state, lanes.is_in_line(operation)) == ("queued", True)
        assert {step["status"] for step in task_body(operation)["steps"]} == {"waiting"}
    assert sent == []
    assert third.pk not in Operation.objects.filter(due_at__lte=Now()).values_list("pk", flat=True)
    with transaction.atomic():
        lanes.leave(cloning[0])
    # Before all that waits for nothing but a worker, since it holds a place.
    assert sent == [(third.pk, queue.BEGUN)]
    third.refresh_from_db()
    assert (third.state, third.waiting_for) == ("queued", "")
    engine.take_turn(third.pk)
    third.refresh_from_db()
    assert (third.state, third.waiting_for[:12]) == ("running", "Proxmox task")
    assert lanes.is_in_line(fourth)


def test_a_lane_that_empties_before_the_commit_is_not_waited_in(
    cloning, operator, sent, monkeypatch
):
    stand = lanes.stand

    def leave_all() -> None:
        with transaction.atomic():
            for operation in cloning:
                lanes.leave(operation)

    def stand_while_all_leave(operations: list[Operation], wanted: Any) -> None:
        stand(operations, wanted)
        assert at_once(leave_all) == [None]

    monkeypatch.setattr(lanes, "stand", stand_while_all_leave)
    [third] = create(1, operator)
    assert third.waiting_for.startswith("a place in lane")
    assert sent == [(third.pk, queue.NOT_BEGUN)]
    third.refresh_from_db()
    assert third.waiting_for == ""
    engine.take_turn(third.pk)
    third.refresh_from_db()
    assert third.upid, third.waiting_for


def test_who_looks_from_the_line_has_not_begun(cloning, operator):
    [third] = create(1, operator)
    Operation.objects.filter(pk=third.pk).update(due_at=Now(), waiting_for="an old place")
    assert engine.take_turn(third.pk) is not None
    third.refresh_from_db()
    assert (third.state, third.started_at) == ("queued", None)
    assert third.waiting_for == "a place in lane storage:ceph (limit 2): position 1"


def test_all_who_ask_at_once_learn_that_one_of_them_let_them_pass(cluster, sim, operator):
    asked = create(6, operator)
    asks = [partial(lanes.admit, operation, operation.params["lanes"]) for operation in asked]
    assert at_once(*asks) == [None] * 6


def test_two_that_stand_in_two_lanes_do_not_wait_for_each_other(cluster):
    """Whichever took its ticket first there."""
    first, second = (
        Operation.objects.create(kind="start_vm", step="start", by="ana", cluster=cluster)
        for _ in range(2)
    )
    for key, line in (("node:pve", (first, second)), ("storage:ceph", (second, first))):
        lane = Lane.objects.create(cluster=cluster, key=key, limit=1)
        for operation in line:
            LaneTicket.objects.create(lane=lane, operation=operation)
    lanes.call_next(cluster.pk)
    assert not lanes.is_in_line(first)
    assert lanes.is_in_line(second)


def test_it_says_for_which_lane_it_waits_longest(cluster, operator):
    for key, limit in (("node:pve", 1), ("storage:ceph", 1)):
        Lane.objects.create(cluster=cluster, key=key, limit=limit)

    def stand(*wanted: tuple[str, int]) -> lanes.Place | None:
        operation = Operation.objects.create(
            kind="start_vm", step="start", by="ana", cluster=cluster
        )
        return lanes.admit(operation, wanted)

    assert stand(("node:pve", 1)) is None
    assert stand(("storage:ceph", 1)) is None
    assert str(stand(("storage:ceph", 1))).endswith("position 1")
    both = [("node:pve", 1), ("storage:ceph", 1)]
    expected = "a place in lane storage:ceph (limit 1): position 2"
    assert str(lanes.ends_of_line(cluster.pk, [dict(both)])[0]) == expected
    assert str(stand(*both)) == expected


def test_who_waits_for_a_dead_node_keeps_nobody_from_the_storage(cluster, sim, operator):
    asked = a_new_vm("there", node="pve2", memory_mib=256, start_on_create=False)
    _, waiting = actions.create_vm(asked=asked, by=operator)
    assert waiting.tickets.count() == 2
    cluster.nodes.filter(name="pve2").update(status="offline")
    lanes.call_next(cluster.pk)
    assert engine.take_turn(waiting.pk) is not None
    waiting.refresh_from_db()
    assert waiting.waiting_for.startswith("node pve2 to come back")
    assert not LaneTicket.objects.exists()
    cluster.nodes.filter(name="pve2").update(status="online")
    Operation.objects.filter(pk=waiting.pk).update(due_at=Now())
    engine.take_turn(waiting.pk)
    waiting.refresh_from_db()
    assert waiting.upid, waiting.waiting_for


def test_one_canceled_in_line_leaves_it_and_its_vm_is_gone(cloning, operator):
    third, fourth = create(2, operator)
    request_cancel(third, by=operator)
    engine.take_turn(third.pk)
    third.refresh_from_db()
    assert (third.state, third.tickets.count()) == ("canceled", 0)
    assert VirtualMachine.objects.subject_of(third).get().deleted_at is not None
    assert str(lanes.admit(fourth, [("storage:ceph", 2)])).endswith("position 1")


def test_who_stands_in_line_asks_proxmox_nothing(in_line, sim):
    # Once each when they were accepted, and once those who clone.
    assert len(sim.calls_to("GET", "cluster/nextid$")) == 6 + 2
    sim.forget_calls()
    for operation in in_line:
        queue.wake(operation)
        assert engine.take_turn(operation.pk) is not None
    assert sim.calls == []
    assert Operation.objects.filter(waiting_for__startswith="a place").count() == 4


def test_who_leaves_calls_one_and_that_one_has_its_place(in_line):
    called = Operation.objects.filter(due_at__lte=Now())
    through = Operation.objects.filter(tickets__is_through=True).order_by("pk").distinct()
    for expected in in_line[:2]:
        leaving = through.first()
        assert leaving is not None
        with transaction.atomic():
            lanes.leave(leaving)
        assert called.get() == expected
        assert not lanes.is_in_line(expected)
        assert through.count() == 2
        called.update(due_at=Now() + datetime.timedelta(hours=1))


def test_who_is_before_keeps_its_room_in_every_lane_where_it_stands(cluster):
    """Through all its lanes or none, and nobody takes the room of who cannot use it yet."""

    def stand(*wanted: tuple[str, int]) -> tuple[Operation, lanes.Place | None]:
        operation = Operation.objects.create(
            kind="start_vm", step="start", by="ana", cluster=cluster
        )
        return operation, lanes.admit(operation, wanted)

    node, storage = ("node:pve", 1), ("storage:ceph", 2)
    first, place = stand(node, storage)
    assert place is None
    second, place = stand(node, storage)
    assert str(place) == "a place in lane node:pve (limit 1): position 1"
    # The first leaves, and the second has its room there.
    third, place = stand(storage)
    assert str(place) == "a place in lane storage:ceph (limit 2): position 1"
    with transaction.atomic():
        lanes.leave(first)
    assert not lanes.is_in_line(second)
    assert not lanes.is_in_line(third)
    assert LaneTicket.objects.filter(is_through=True).count() == 3


def test_one_called_while_it_writes_down_that_it_waits_comes_back_at_once(in_line, monkeypatch):
    """The line moved between its asking and its writing down."""
    first, admit = in_line[0], lanes.admit

    def admit_and_be_called(operation: Operation, wanted: Any) -> lanes.Place | None:
        place = admit(operation, wanted)
        leaving = Operation.objects.filter(tickets__is_through=True).first()
        assert leaving is not None
        with transaction.atomic():
            lanes.leave(leaving)
        return place

    monkeypatch.setattr(lanes, "admit", admit_and_be_called)
    queue.wake(first)
    engine.take_turn(first.pk)
    assert not lanes.is_in_line(first)
    assert Operation.objects.filter(pk=first.pk, due_at__lte=Now()).exists()


def test_whose_node_dies_meanwhile_stands_in_another_line(in_line, cluster):
    first = in_line[0]
    old = VirtualMachine.objects.get(uuid=first.subject).node
    cluster.nodes.filter(name=old).update(status="offline")
    queue.wake(first)
    engine.take_turn(first.pk)
    new = VirtualMachine.objects.get(uuid=first.subject).node
    assert new != old
    keys = set(first.tickets.values_list("lane__key", flat=True))
    assert keys == {f"node:{new}", "storage:ceph"}


def test_a_thousand_in_line_look_again_less_than_ten_times_a_second():
    rates = [1 / lanes.Place("storage:ceph", 4, n).check_s for n in range(1, 1001)]
    assert 1 < sum(rates) < 12
    assert min(rates) >= 1 / 120


def test_an_operators_limit_holds_from_the_next_place_on(cluster, sim, operator):
    create(1, operator)
    carry_all(sim)
    Lane.objects.filter(cluster=cluster, key="storage:ceph").update(limit=1)
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=10)
    create(4, operator)
    assert carry_all(sim) == 1


def test_a_raised_limit_calls_those_who_may_pass_at_once(cluster, sim, operator, admin_client):
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=60)
    asked = create(6, operator)
    lane, _ = Lane.objects.update_or_create(
        cluster=cluster, key="storage:ceph", defaults={"limit": 1}
    )
    in_line = Operation.objects.filter(waiting_for__startswith="a place")
    run_until(in_line.count, lambda count: count == len(asked) - 1)
    waiting = list(in_line.values_list("pk", flat=True))
    Operation.objects.filter(pk__in=waiting).update(due_at=Now() + datetime.timedelta(hours=1))
    answer = admin_client.post(f"/admin/operations/lane/{lane.pk}/change/", {"limit": 3})
    assert answer.status_code == 302, answer.content
    assert Operation.objects.filter(pk__in=waiting, due_at__lte=Now()).count() == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_hundred_creations_at_two_allocations_all_succeed(cluster, sim, operator):
    Lane.objects.create(cluster=cluster, key="storage:ceph", limit=2)
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=4)
    create(100, operator)
    create(100, operator)
    assert carry_all(sim) <= 2
    states = set(Operation.objects.values_list("state", "error"))
    assert states == {(SUCCEEDED, "")}
    assert not LaneTicket.objects.exists()
    assert not any("got timeout" in line for task in sim.tasks("qmclone") for line in task.log)
