"""What the hostile tests do to the cluster and to the clock."""

from __future__ import annotations

import datetime
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from operations import engine
from operations.models import Operation
from pve_simulator.testing import SimulatorThread
from tests.conftest import run_until
from vms.models import VirtualMachine


def put_foreign(sim: SimulatorThread, vmid: int, node: str, **config: Any) -> dict[str, Any]:
    """Somebody else's VM under this number; gives its configuration."""
    theirs = {"name": "theirs", "smbios1": "uuid=11111111-2222-4333-8444-555555555555", **config}
    sim.change(
        lambda s: s.world.guests.update(
            {vmid: type(s.world.guests[100])(vmid=vmid, node=node, config=dict(theirs))}
        )
    )
    return theirs


def is_untouched(sim: SimulatorThread, vmid: int, theirs: dict[str, Any]) -> bool:
    guest = sim.guest(vmid)
    return guest is not None and guest.config == theirs


def let_time_pass(operation: Operation, seconds: float) -> None:
    """As if everything of this operation had begun that much earlier."""
    fields = (
        "submitted_at",
        "call_ends_at",
        "acted_at",
        "trouble_since",
        "silent_since",
        "waiting_since",
        "crashed_since",
    )
    earlier = datetime.timedelta(seconds=seconds)
    Operation.objects.filter(pk=operation.pk).update(
        **{name: F(name) - earlier for name in fields},
        step_started_at=F("step_started_at") - earlier,
    )


def step_by_step(operation: Operation, step: str) -> Operation:
    """Carry the operation until it is in this step, or has ended."""
    found: Operation = run_until(
        lambda: Operation.objects.get(pk=operation.pk), lambda o: o.step == step or o.is_ended
    )
    return found


def turn(operation: Operation) -> Operation:
    engine.take_turn(operation.pk)
    return Operation.objects.get(pk=operation.pk)


def marked_as_ours(sim: SimulatorThread, vm: VirtualMachine) -> list[int]:
    """The VMIDs in Proxmox whose mark names this VM."""
    return [
        vmid
        for vmid, guest in sim.guests().items()
        if f"vm={vm.uuid}" in str(guest.config.get("description", ""))
    ]


def reread(operation: Operation) -> Operation:
    return Operation.objects.get(pk=operation.pk)


def turn_now(operation: Operation) -> Operation:
    """A turn before it is due."""
    Operation.objects.filter(pk=operation.pk).update(due_at=Now())
    return turn(operation)
