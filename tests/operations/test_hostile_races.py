"""Attempts to break claims, lanes and ends by doing things at the same moment."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from operations import ending, engine
from operations.claims import Claimed
from operations.enqueue import enqueue, request_cancel
from operations.lease import Lease
from operations.models import Claim, Lane, LaneTicket, Operation
from operations.refusals import Conflict, NotAllowed, Refusal
from pve_simulator import accidents
from templates_app.models import Template
from tests.conftest import run_until
from tests.operations.hostile import reread, step_by_step, turn_now
from tests.operations.test_hostile_ends import carry_into
from tests.threads import at_once
from tests.vms.cast import a_new_vm, a_vm, ask_for
from vms import actions
from vms.marks import read_mark
from vms.models import RUNNING, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)


def test_of_twenty_actions_on_one_vm_one_wins_and_the_others_are_refused(cluster, sim, operator):
    """Stops and deletions lock rows on ways of their own; none may end in a deadlock."""
    vm = a_vm(sim, operator)

    def stop() -> Operation:
        mine = VirtualMachine.objects.get(pk=vm.pk)
        return actions.stop_vm(vm=mine, force=True, timeout_s=60, by=operator)

    def delete() -> Operation:
        return actions.delete_vm(vm=VirtualMachine.objects.get(pk=vm.pk), by=operator)

    results = at_once(*[stop, delete] * 10)
    assert sum(isinstance(result, Operation) for result in results) == 1
    refused = [result for result in results if not isinstance(result, Operation)]
    assert all(isinstance(result, Claimed) for result in refused), refused


def test_a_state_that_was_checked_before_another_task_ended_counts_no_more(
    cluster, sim, operator, work
):
    vm = a_vm(sim, operator)
    as_checked = VirtualMachine.objects.get(pk=vm.pk)
    work(actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator))
    assert as_checked.power == RUNNING, "the row, as the second caller had read it"
    with pytest.raises(Conflict) as refused:
        actions.stop_vm(vm=as_checked, force=True, timeout_s=60, by=operator)
    assert refused.value.code == "wrong_state"
    assert len(sim.tasks("qmstop")) == 1
    assert not Claim.objects.exists()


def test_a_vm_deleted_in_the_moment_its_creation_ends_waits_for_nobody_for_ever(
    cluster, sim, operator, work
):
    """The end holds its rows while the deletion arrives: neither is thrown out as a deadlock."""
    for _ in range(4):
        vm, creation = ask_for("create_vm", None, operator)
        step_by_step(creation, "start")
        turn_now(creation)

        def end(operation: Operation = creation) -> None:
            run_until(lambda: reread(operation), lambda o: o.is_ended)

        def delete(vm: VirtualMachine = vm) -> Operation:
            return actions.delete_vm(vm=VirtualMachine.objects.get(pk=vm.pk), by=operator)

        ended, deletion = at_once(end, delete)
        assert ended is None, ended
        assert isinstance(deletion, Operation | Refusal), deletion
        if isinstance(deletion, Operation):
            assert work(deletion).state == "succeeded"
            assert sim.guest(vm.vmid) is None


def test_a_deletion_counts_until_the_point_of_no_return(cluster, sim, operator, work):
    """It comes while a worker is already in the turn that goes past that."""
    vm, build = ask_for("build_template", None, operator)
    carry_into(build, "remove_image")
    run_until(lambda: reread(build), lambda o: o.task_exit)
    lease = Lease.take(build.pk)
    assert lease is not None
    deletion = actions.delete_vm(vm=VirtualMachine.objects.get(pk=vm.pk), by=operator)
    engine.Turn(lease).run()
    assert work(deletion).state == "succeeded"
    assert reread(build).state == "canceled"
    assert sim.guest(vm.vmid) is None
    assert not Template.objects.filter(name="built").exists()


def test_a_deletion_whose_vm_has_become_a_template_does_not_call_it_gone(
    cluster, sim, operator, work
):
    vm = a_vm(sim, operator, running=False, linked=False)
    conversion = work(actions.convert_vm(vm=vm, by=operator))
    with transaction.atomic():
        deletion = enqueue(
            "delete_vm",
            cluster=cluster,
            by=operator,
            wants=[(vm.claim, "exclusive")],
            subject=vm.uuid,
            after=conversion,
        )
    ended = work(deletion)
    assert (ended.state, ended.error_code) == ("failed", "wrong_state")
    assert sim.guest(vm.vmid) is not None


def test_an_end_locks_the_vm_before_the_operation_as_a_deletion_does(cluster, sim, operator):
    operation = actions.start_vm(vm=a_vm(sim, operator, running=False), by=operator)
    lease = Lease.take(operation.pk)
    assert lease is not None
    statements: list[str] = []

    def watch(execute: Any, sql: str, *args: Any) -> Any:
        statements.append(sql)
        return execute(sql, *args)

    with connection.execute_wrapper(watch):
        ending.end(lease, "succeeded")
    updates = [sql for sql in statements if sql.startswith("UPDATE")]
    assert "vms_virtualmachine" in updates[0], updates


def test_a_deletion_canceled_in_line_while_its_turn_comes_leaks_no_claim(
    cluster, sim, operator, work
):
    for _ in range(3):
        vm, creation = ask_for("create_vm", None, operator)
        turn_now(creation)
        deletion = actions.delete_vm(vm=VirtualMachine.objects.get(pk=vm.pk), by=operator)
        step_by_step(creation, "stop_to_discard")

        def end(operation: Operation = creation) -> None:
            run_until(lambda: reread(operation), lambda o: o.is_ended)

        def cancel(operation: Operation = deletion, other: Operation = creation) -> None:
            while not reread(other).is_ended:
                connection.ensure_connection()
                if Operation.objects.filter(pk=other.pk, step="discard").exists():
                    break
            request_cancel(operation, by=operator)

        ended, canceled = at_once(end, cancel)
        assert ended is None, ended
        assert canceled is None or isinstance(canceled, Conflict), canceled
        assert work(deletion).is_ended
        assert not Claim.objects.exists()
        vm.refresh_from_db()
        assert (vm.doing, vm.task) == ("", None)


def test_a_successor_of_what_has_ended_meanwhile_does_not_wait_for_it(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    ended = work(actions.start_vm(vm=vm, by=operator))
    with transaction.atomic():
        operation = enqueue(
            "stop_vm",
            cluster=cluster,
            by=operator,
            wants=[(vm.claim, "exclusive")],
            subject=vm.uuid,
            after=ended,
        )
    assert work(operation).state == "succeeded"


def test_a_quota_holds_against_twenty_requests_at_once(cluster, sim, operator, project):
    from accounts.models import Quota

    Quota.objects.update_or_create(project=project, defaults={"vms": 5})
    results = at_once(
        *[
            lambda n=n: actions.create_vm(asked=a_new_vm(f"crowd-{n}"), by=operator)
            for n in range(20)
        ]
    )
    made = [result[0] for result in results if isinstance(result, tuple)]
    assert len(made) == 5
    assert len({vm.vmid for vm in made}) == 5
    refused = [result for result in results if not isinstance(result, tuple)]
    assert all(isinstance(r, NotAllowed) and r.code == "quota_exceeded" for r in refused), refused


def test_thirty_creations_pass_a_lane_of_two_and_leave_nothing_there(cluster, sim, operator):
    """Some fail, some are canceled, the others come out right."""
    made = [actions.create_vm(asked=a_new_vm(f"lane-{n}"), by=operator) for n in range(30)]
    Lane.objects.update_or_create(cluster=cluster, key="storage:ceph", defaults={"limit": 2})
    most = 0

    def read() -> list[Operation]:
        nonlocal most
        clones = sum(t.is_running for t in sim.tasks("qmclone"))
        most = max(most, clones)
        return list(Operation.objects.filter(pk__in=[o.pk for _, o in made]).order_by("pk"))

    run_until(read, lambda found: sum("position" in o.waiting_for for o in found) >= 20)
    for _, operation in made[10:15]:
        request_cancel(operation, by=operator)
    for _ in range(3):
        sim.cause(accidents.fail_next_task, kind="qmclone", text="no space left on device")
    found = run_until(read, lambda found: all(o.is_ended for o in found), 90)
    states = [o.state for o in found]
    assert states.count("canceled") == 5
    assert states.count("failed") == 3
    assert states.count("succeeded") == 22
    assert most <= 2
    assert not LaneTicket.objects.exists()
    assert not Claim.objects.exists()
    alive = VirtualMachine.objects.filter(deleted_at=None).values_list("vmid", flat=True)
    descriptions = {v: g.config.get("description", "") for v, g in sim.guests().items()}
    ours = {vmid for vmid, text in descriptions.items() if read_mark(text)}
    assert ours <= set(alive)
    assert len(ours) == 22
