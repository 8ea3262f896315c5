"""Creations that are asked for at the same moment are written down together, each as if alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import structlog
from django.db import OperationalError, connection, transaction
from psycopg import OperationalError as PsycopgError
from psycopg.errors import (
    AdminShutdown,
    ConnectionFailure,
    DeadlockDetected,
    DiskFull,
    PipelineAborted,
)

from accounts import sql
from accounts.models import Project, Quota
from events.models import Event
from operations import enqueue, idempotency, queue
from operations.claims import Claimed
from operations.models import SHARED, Claim, IdempotencyKey, Operation
from operations.refusals import Conflict, NotAllowed
from tests.threads import at_once
from tests.vms.cast import a_new_vm, a_vm
from tests.waiting import wait_until
from vms import accepting, actions, cloning, creation
from vms.asked import CloneOf
from vms.models import MIB, RUNNING, STOPPED, VirtualMachine
from vms.placement import Capacity, choose_alone
from vms.quota import Headroom

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sizes(monkeypatch) -> list[int]:
    """How many requests each transaction took, in their order."""
    found: list[int] = []
    write = accepting.write

    def noted(together: list[Any], *more: Any) -> Any:
        found.append(len(together))
        return write(together, *more)

    monkeypatch.setattr(accepting, "write", noted)
    return found


def while_one_writes(cluster, calls: list[Any], kind: str = "create_vm") -> list[Any]:
    """The first begins to write, while nobody can choose a node; what each gave or raised."""
    line = accepting._lines[cluster.pk, kind]

    def follow(call: Any) -> Any:
        wait_until(lambda: line._writer is not None, "the first", 30)
        return call()

    results: list[Any] = []
    everybody = [calls[0], *(partial(follow, call) for call in calls[1:])]
    thread = threading.Thread(target=lambda: results.extend(at_once(*everybody)))
    with transaction.atomic():
        choose_alone(cluster)
        thread.start()
        wait_until(lambda: len(line._waiting) == len(calls) - 1, "the others to wait", 30)
    thread.join(60)
    return results


def create(operator, name: str, **asked: Any) -> Operation:
    return actions.create_vm(asked=a_new_vm(name, memory_mib=256, **asked), by=operator)[1]


def test_who_waits_while_another_writes_is_written_with_all_who_wait(
    cluster, sim, operator, sizes, work
):
    made = while_one_writes(cluster, [partial(create, operator, f"new-{n}") for n in range(6)])
    assert sizes == [1, 5]
    assert len({operation.pk for operation in made}) == 6
    vms = VirtualMachine.objects.filter(name__startswith="new-")
    assert len({vm.vmid for vm in vms}) == len(vms) == 6
    for operation in made:
        assert work(operation).state == "succeeded"


def test_what_stands_against_one_stands_against_no_other(
    cluster, sim, operator, project, sizes, work
):
    Quota.objects.create(project=project, cores=10)
    calls = [partial(create, operator, f"new-{n}") for n in range(4)]
    results = while_one_writes(cluster, [*calls, partial(create, operator, "big", cores=16)])
    refused = [one for one in results if not isinstance(one, Operation)]
    assert [type(one) for one in refused] == [NotAllowed], refused
    assert "cores" in str(refused[0])
    assert sizes == [1, 4, 1, 1, 1, 1]
    assert VirtualMachine.objects.filter(name__startswith="new-").count() == 4
    assert not VirtualMachine.objects.filter(name="big").exists()


def test_each_keeps_its_own_key_and_request_id(cluster, sim, operator):
    def ask(number: int) -> Operation:
        asked = idempotency.Asked(caller="ci", key=f"key-{number}", digest=f"digest-{number}")
        with (
            structlog.contextvars.bound_contextvars(request_id=f"request-{number}"),
            idempotency.carrying(asked),
        ):
            return create(operator, f"new-{number}")

    made = while_one_writes(cluster, [partial(ask, number) for number in range(5)])
    for number, operation in enumerate(made):
        assert operation.request_id == f"request-{number}"
        assert operation.subject_label.endswith(f"new-{number}")
        key = IdempotencyKey.objects.get(caller="ci", key=f"key-{number}")
        assert (key.digest, key.operations) == (f"digest-{number}", [operation.uuid])


def test_who_asks_is_named_with_each(cluster, sim, operator, project):
    people = [replace(operator, name=f"token:{n}") for n in range(4)]
    calls = [partial(create, one, f"new-{n}") for n, one in enumerate(people)]
    made = while_one_writes(cluster, calls)
    assert [operation.by for operation in made] == [one.name for one in people]
    accepted = Event.objects.filter(kind="task.accepted").values_list("task", "actor")
    assert dict(accepted) == {one.uuid: one.by for one in made}


def test_a_database_that_goes_away_is_told_to_all_who_were_written_together(
    cluster, sim, operator, sizes, monkeypatch
):
    """Whether the rows are there nobody knows, so nobody writes them again."""

    def write_down(operations: list[Operation], **more: Any) -> None:
        enqueue.write_down(operations, **more)
        if len(operations) > 1:
            raise OperationalError("the connection is lost")

    monkeypatch.setattr(accepting, "write_down", write_down)
    results = while_one_writes(cluster, [partial(create, operator, f"new-{n}") for n in range(4)])
    assert sizes == [1, 3]
    assert sum(isinstance(one, Operation) for one in results) == 1
    assert sum(isinstance(one, OperationalError) for one in results) == 3
    assert VirtualMachine.objects.filter(name__startswith="new-").count() == 1


def test_what_postgres_refuses_one_is_told_to_that_one(cluster, sim, operator, sizes, monkeypatch):
    """A deadlock is an OperationalError too, and says that nothing was committed."""

    def write_down(operations: list[Operation], **more: Any) -> None:
        enqueue.write_down(operations, **more)
        if any(operation.subject_label.endswith("new-2") for operation in operations):
            raise OperationalError("deadlock") from DeadlockDetected()

    monkeypatch.setattr(accepting, "write_down", write_down)
    results = while_one_writes(cluster, [partial(create, operator, f"new-{n}") for n in range(4)])
    assert sizes == [1, 3, 1, 1, 1]
    assert [type(one) for one in results].count(OperationalError) == 1
    made = VirtualMachine.objects.filter(name__startswith="new-").values_list("name", flat=True)
    assert sorted(made) == ["new-0", "new-1", "new-3"]


def test_a_key_whose_first_request_was_committed_after_all_makes_no_second_vm(
    cluster, sim, operator
):
    """The leader's connection was cut at its commit, and the repetition found no result yet."""
    asked = idempotency.Asked(caller="ci", key="key", digest="digest")
    with idempotency.carrying(asked):
        create(operator, "new-0")
        with pytest.raises(Conflict) as refused:
            create(operator, "new-0")
    assert refused.value.code == "in_progress"
    assert VirtualMachine.objects.filter(name="new-0").count() == 1


def test_a_key_that_another_commits_meanwhile_is_refused_to_its_own_request_alone(
    cluster, sim, operator
):
    asked = idempotency.Asked(caller="ci", key="key", digest="digest")
    is_written = threading.Event()

    def first() -> None:
        with transaction.atomic():
            IdempotencyKey.objects.create(caller="ci", key="key", digest="digest", operations=[])
            is_written.set()
            waits = "SELECT FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
            wait_until(lambda: sql.rows(waits), "the repetition to wait for it", 30)
        connection.close()

    def again() -> Operation:
        with idempotency.carrying(asked):
            return create(operator, "again")

    thread = threading.Thread(target=first)
    thread.start()
    is_written.wait(30)
    others = [partial(create, operator, f"new-{n}") for n in range(3)]
    results = while_one_writes(cluster, [others[0], again, *others[1:]])
    thread.join(30)
    assert getattr(results.pop(1), "code", None) == "in_progress", results
    assert all(isinstance(made, Operation) for made in results), results


@pytest.mark.parametrize(
    ("cause", "is_lost"),
    [
        (None, True),
        (PsycopgError("the connection is lost"), True),
        (ConnectionFailure(), True),
        (AdminShutdown(), True),
        (DeadlockDetected(), False),
        (DiskFull(), False),
        (PipelineAborted(), False),
    ],
)
def test_after_which_errors_nobody_knows_whether_it_was_committed(cause, is_lost):
    error = OperationalError("it failed")
    error.__cause__ = cause
    assert accepting.is_connection_lost(error) == is_lost


def test_quotas_are_locked_in_one_order_whoever_asks_first(cluster, project):
    others = [Project.objects.create(name=name) for name in ("one", "two")]
    with transaction.atomic():
        held = accepting.ask_headrooms([others[1], None, others[0], project, others[1]])
    assert list(held) == [None, *sorted(one.pk for one in (project, *others))]


def test_two_clones_of_which_one_wants_the_source_alone_are_not_both_let_in(cluster, sim, operator):
    source = a_vm(sim, operator, running=False)
    calls = []
    for name, power in (("first", STOPPED), ("second", STOPPED), ("third", RUNNING)):
        vm = VirtualMachine.objects.get(pk=source.pk)
        vm.power = power  # as each request has read it
        draft = cloning.draft_clone(vm, CloneOf(name=name), by=operator)
        calls.append(partial(accepting.accept, [draft], operator))
    results = while_one_writes(cluster, calls, kind="clone_vm")
    assert [isinstance(one, list) for one in results] == [True, True, False]
    assert isinstance(results[2], Claimed)
    modes = Claim.objects.filter(object=source.claim).values_list("mode", flat=True)
    assert list(modes) == [SHARED, SHARED]


def test_a_hint_that_cannot_be_sent_takes_nothing_back(cluster, sim, operator, sizes, monkeypatch):
    def send(*args: Any, **more: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(queue, "send", send)
    results = while_one_writes(cluster, [partial(create, operator, f"new-{n}") for n in range(3)])
    assert [type(one) for one in results] == [Operation] * 3, results
    assert sizes == [1, 2]


def test_who_waits_writes_as_soon_as_the_ones_before_are_committed(
    cluster, sim, operator, sizes, monkeypatch
):
    """Not when their hints are sent as well, which may take long."""
    send, next_writes = queue.send, threading.Event()
    write = accepting.write
    # What is raised after a commit is only logged.
    next_wrote: list[bool] = []

    def noted(*asked: Any) -> Any:
        if sizes:
            next_writes.set()
        return write(*asked)

    def slow(*args: Any, **more: Any) -> None:
        next_wrote.append(next_writes.wait(10))
        send(*args, **more)

    monkeypatch.setattr(accepting, "write", noted)
    monkeypatch.setattr(queue, "send", slow)
    results = while_one_writes(cluster, [partial(create, operator, f"new-{n}") for n in range(3)])
    assert [type(one) for one in results] == [Operation] * 3, results
    assert next_wrote
    assert all(next_wrote)
    assert sizes == [1, 2]


def test_many_vms_are_not_written_in_one_piece(cluster, sim, operator, monkeypatch):
    monkeypatch.setattr(accepting, "MOST_TOGETHER", 5)
    line = accepting.Line()
    for count in (2, 2, 2, 9, 1):
        line._waiting.append(accepting.Asked([None] * count, operator, 1, None))  # type: ignore[list-item]
    taken = []
    while line._waiting:
        taken.append([len(asked.drafts) for asked in line._next()])
    assert taken == [[2, 2], [2], [9], [1]]


def test_a_project_deleted_meanwhile_is_told_to_its_own(cluster, sim, operator, project):
    other = Project.objects.create(name="other")
    member = replace(operator, project=Project(pk=other.pk, name="other"))
    calls = [partial(create, operator, f"new-{n}") for n in range(3)]
    other.delete()
    results = while_one_writes(cluster, [*calls, partial(create, member, "orphan")])
    refused = [one for one in results if not isinstance(one, Operation)]
    assert [type(one) for one in refused] == [Conflict], refused
    assert len(results) == 4


def test_within_a_transaction_of_its_own_one_is_written_in_it(cluster, sim, operator, sizes):
    with transaction.atomic():
        create(operator, "undone")
        transaction.set_rollback(True)
    assert sizes == [1]
    assert not VirtualMachine.objects.filter(name="undone").exists()


def test_what_one_was_refused_after_its_place_was_found_is_there_for_the_others(
    cluster, sim, operator, project
):
    """A batch that is content with fewer leaves the memory of those that its quota refused."""
    cluster.nodes.exclude(name="pve").update(status="offline")
    node = cluster.nodes.get(name="pve")
    Quota.objects.create(
        project=project, vms=VirtualMachine.objects.filter(project=project).count() + 2
    )
    draft = creation.draft_vm(a_new_vm("some", memory_mib=256), by=operator)
    with transaction.atomic():
        capacity, room = Capacity(cluster), Headroom.of(project)
        before = capacity.free_memory[node.name]
        fitting = creation.fit(creation.batch_of(draft, 4), capacity, room, at_least=1)
    assert before - capacity.free_memory[node.name] == len(fitting) * 256 * MIB
    assert 0 < len(fitting) < 4
