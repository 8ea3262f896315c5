"""A worker is killed at every point of every plan, and another goes on: nothing is lost or doubled.

The points are found by running the plan: each call that changes something in Proxmox, before it
is sent and after it was answered, and each write of the operation's row. A turn runs in a forked
process that ends itself there, as SIGKILL would: without a word.
"""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from django.db import connections

from accounts.actors import Actor
from clusters.connect import forget_clients
from operations.lease import Lease
from operations.models import Claim, LaneTicket, Operation
from operations.plans import all_plans, plan_for
from proxmox import Client
from pve_simulator.testing import SimulatorThread
from tests.conftest import due, run_until
from tests.vms.cast import ask_for, vm_for
from vms.models import CREATIONS

pytestmark = pytest.mark.django_db(transaction=True)

KILLED, LASTED = 77, 78
ISO = re.compile(r"izvor-[0-9a-f-]{36}-[0-9a-f]{12}\.iso(,size=\w+)?")
KINDS = [plan.kind for plan in all_plans()]


class Killer:
    """Counts the points a turn passes, and ends the process at the one it was given."""

    def __init__(self, deadly: int) -> None:
        self.deadly = deadly
        self.passed = 0

    def point(self) -> None:
        self.passed += 1
        if self.passed == self.deadly:
            os._exit(KILLED)

    def watch(self) -> None:
        """Before and after each call that changes something; after each write."""
        act, write = Client._act, Lease.write

        def watched_act(client: Client, *args: Any, **values: Any) -> Any:
            self.point()
            answer = act(client, *args, **values)
            self.point()
            return answer

        def watched_write(lease: Lease, **values: Any) -> None:
            write(lease, **values)
            self.point()

        Client._act, Lease.write = watched_act, watched_write  # type: ignore[assignment, method-assign]


def in_a_worker_that_dies(operation: Operation, deadly: int) -> bool:
    """Carry the operation in a process of its own; True if it was killed on the way."""
    connections.close_all()
    # The pool's threads would not follow into the child.
    connections["default"].close_pool()  # type: ignore[attr-defined]
    forget_clients()
    child = os.fork()
    if child == 0:
        try:
            Killer(deadly).watch()
            carry(operation)
            os._exit(LASTED)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {KILLED, LASTED}, f"the worker ended with {code}"
    return code == KILLED


def carry(operation: Operation) -> Operation:
    ended: Operation = run_until(
        lambda: Operation.objects.get(pk=operation.pk), lambda o: o.is_ended, 30
    )
    return ended


def fingerprint(sim: SimulatorThread, vm: Any) -> dict[str, Any]:
    """The end as the cluster has it, without what differs by chance."""
    guest = sim.guest(vm.vmid)
    if guest is None:
        return {"exists": False}
    random = {"smbios1", "vmgenid", "net0", "digest", "meta", "description"}
    config = {
        key: ISO.sub("ISO", str(value)).replace(str(vm.vmid), "VMID")
        for key, value in sorted(guest.config.items())
        if key not in random
    }
    return {"exists": True, "running": guest.is_running, "config": config}


@pytest.fixture
def impatient(settings: Any) -> None:
    """A dead worker's lease runs out soon, a lost answer is waited for shortly."""
    shortened = {"lease_s": 0.5, "heartbeat_s": 0.1, "call_s": 1.0, "grace_s": 0.3}
    settings.ENGINE = {**settings.ENGINE, **shortened}


def scenario(kind: str, sim: SimulatorThread, by: Actor) -> tuple[Any, Operation]:
    return ask_for(kind, vm_for(kind, sim, by), by)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("deadly", [3, 4], ids=["stamped", "called"])
def test_death_around_the_first_call(kind, deadly, cluster, sim, operator, impatient):
    """The two worst moments: the call is stamped and not sent; sent, and its answer not stored."""
    die_and_go_on(kind, deadly, sim, operator)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS)
def test_death_at_every_point(kind, cluster, sim, operator, impatient):
    deadly = 1
    while die_and_go_on(kind, deadly, sim, operator):
        deadly += 1
    assert deadly > 3, "a plan with no point to die at was not watched"


def die_and_go_on(kind: str, deadly: int, sim: SimulatorThread, by: Actor) -> bool:
    undisturbed = fingerprint_of_undisturbed(kind, sim, by)
    guests_before = len(sim.guests())
    vm, operation = scenario(kind, sim, by)
    sim.forget_calls()
    created_here = len(sim.guests()) - guests_before
    killed = in_a_worker_that_dies(operation, deadly)
    operation = carry(operation)
    vm.refresh_from_db()
    if operation.error_code == "outcome_unknown":
        # The one truthful end of a verb that may not happen twice, and was stamped but never sent.
        assert plan_for(kind).find(operation.step).is_at_most_once
        assert not sim.calls_to("POST", "/(status/reboot|status/reset|rollback)$")
    else:
        assert operation.state == "succeeded", f"{operation.error_code}: {operation.error}"
        assert fingerprint(sim, vm) == undisturbed
    once = sim.calls_to("POST", "/(status/reboot|status/reset|rollback)$")
    assert len(once) <= 1, "what cannot be seen afterwards was sent twice"
    made = {"delete_vm": -1, "delete_template": -1}.get(kind, int(kind in CREATIONS))
    assert len(sim.guests()) == guests_before + created_here + made, "one VM too many or too few"
    assert not Claim.objects.exists()
    assert not LaneTicket.objects.exists()
    assert getattr(vm, "task", None) is None
    assert not due()
    return killed


_undisturbed: dict[str, dict[str, Any]] = {}


def fingerprint_of_undisturbed(kind: str, sim: SimulatorThread, by: Actor) -> dict[str, Any]:
    if kind not in _undisturbed:
        vm, operation = scenario(kind, sim, by)
        assert carry(operation).state == "succeeded"
        vm.refresh_from_db()
        _undisturbed[kind] = fingerprint(sim, vm)
    return _undisturbed[kind]
