"""Each kind is canceled in each of its steps, and each of its calls is refused once.

Made from the plans themselves, as the crash matrix is (`test_crashes`), so that a new step or kind
cannot escape: whatever happens, the task ends, nothing is held, and what was not made is not there.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest

from accounts.actors import Actor
from operations.enqueue import request_cancel
from operations.models import CANCELED, FAILED, SUCCEEDED, Claim, LaneTicket, Operation
from operations.plans import all_plans, plan_for
from operations.refusals import Conflict
from proxmox import Client, Rejected
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from tests.conftest import run_until
from tests.operations.hostile import reread
from tests.operations.test_hostile_ends import one_move
from tests.vms.cast import MAKING, ask_for, vm_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow, pytest.mark.timeout(600)]

KINDS = [plan.kind for plan in all_plans()]
# They make a VM, too.
NEW = {*MAKING, "clone_vm"}


@dataclass(frozen=True)
class Scene:
    """The cluster before an operation of this kind, and the operation."""

    kind: str
    vm: Any
    operation: Operation
    before: tuple[set[int], set[str]]

    def check(self, sim: SimulatorThread, ended: Operation) -> None:
        """What holds after any end."""
        assert not Claim.objects.exists()
        assert not LaneTicket.objects.exists()
        self.vm.refresh_from_db()
        assert getattr(self.vm, "doing", "") == ""
        guests, volumes = inventory(sim)
        assert {guest.lock for guest in sim.guests().values()} <= {None, "suspended"}
        if self.kind in NEW and ended.state != SUCCEEDED:
            assert (guests, volumes) == self.before, "something was left behind"
        elif ended.state != SUCCEEDED:
            assert guests == self.before[0], "a VM came or went"


def inventory(sim: SimulatorThread) -> tuple[set[int], set[str]]:
    """Numbers of all guests, names of all volumes."""

    def read(live: Simulator) -> tuple[set[int], set[str]]:
        places = live.world.volumes.values()
        return set(live.world.guests), {volid for volumes in places for volid in volumes}

    return sim.change(read)


def scene(kind: str, sim: SimulatorThread, by: Actor) -> Scene:
    subject = vm_for(kind, sim, by)
    before = inventory(sim)
    vm, operation = ask_for(kind, subject, by)
    return Scene(kind, vm, operation, before)


def carry(operation: Operation) -> Operation:
    ended: Operation = run_until(lambda: reread(operation), lambda o: o.is_ended, 60)
    return ended


def stands_in(operation: Operation, step: str) -> bool:
    """Carry it into this step, at least one move far; False where the plan goes past it."""
    names = [each.name for each in plan_for(operation.kind).steps]
    for _ in range(200):
        found = reread(operation)
        if found.is_ended or names.index(found.step) > names.index(step):
            return False
        if found.step == step and (found.upid or found.acted_at or found.submitted_at):
            return True
        one_move(operation)
    raise AssertionError(f"{operation.kind} does not get into {step}")


def refusal_of_cancel(operation: Operation, by: Actor) -> str:
    """Ask to cancel it; the code of the refusal, "" for none."""
    try:
        request_cancel(reread(operation), by=by)
    except Conflict as refusal:
        return refusal.code
    return ""


@pytest.mark.parametrize("kind", KINDS)
def test_a_cancel_in_any_step_ends_as_that_step_allows(kind, cluster, sim, operator):
    canceled = 0
    for step in ("", *(each.name for each in plan_for(kind).steps)):
        shown = scene(kind, sim, operator)
        if step and not stands_in(shown.operation, step):
            shown.check(sim, carry(shown.operation))
            continue
        refusal = refusal_of_cancel(shown.operation, operator)
        assert refusal in {"", "not_cancelable", "task_ended"}
        ended = carry(shown.operation)
        assert ended.state in {SUCCEEDED, SUCCEEDED if refusal else CANCELED}, ended.error
        canceled += not refusal
        shown.check(sim, ended)
    assert canceled, "not even before it has begun"


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_of_any_call_ends_the_task_and_leaves_nothing(
    kind, cluster, sim, operator, monkeypatch
):
    act = Client._act
    refused = 0
    for fatal in itertools.count(1):
        shown = scene(kind, sim, operator)
        calls = itertools.count(1)

        def refuse_one(client: Client, *args: Any, **values: Any) -> Any:
            nonlocal refused
            if next(calls) == fatal:  # noqa: B023 (it is done with when the next one is made)
                refused += 1
                raise Rejected("the disk is on fire", status=500)
            return act(client, *args, **values)

        monkeypatch.setattr(Client, "_act", refuse_one)
        ended = carry(shown.operation)
        monkeypatch.setattr(Client, "_act", act)
        assert ended.state in {FAILED, SUCCEEDED}
        if ended.state == FAILED:
            assert "on fire" in ended.error, fatal
        shown.check(sim, ended)
        if refused < fatal:
            break
    assert refused, "a plan that calls nothing was not watched"
