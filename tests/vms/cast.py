"""The standing cast: a VM made through Izvor, and one operation of each kind on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from accounts.actors import Actor
from operations.models import Operation
from pve_simulator.testing import SimulatorThread
from tests.conftest import run_until
from vms import actions
from vms.asked import CloneOf, CloudInit, NewVm, VmChanges
from vms.models import VirtualMachine

USER_DATA = CloudInit(user="ana", user_data="#!/bin/sh\necho hello\n")


def a_new_vm(name: str = "web", **asked: Any) -> NewVm:
    values: dict[str, Any] = {
        "name": name,
        "template": "ubuntu-22.04",
        "linked": True,
        "cores": 1,
        "memory_mib": 512,
        "disk_gib": 5,
        "tags": ("izvor",),
    }
    return NewVm(**{**values, **asked})


def a_vm(sim: SimulatorThread, by: Actor, *, running: bool = True, **asked: Any) -> VirtualMachine:
    """One that exists, made by the engine itself."""
    vm, operation = actions.create_vm(asked=a_new_vm(start_on_create=running, **asked), by=by)
    finish(operation)
    vm.refresh_from_db()
    return vm


def ask_for(kind: str, vm: VirtualMachine | None, by: Actor) -> tuple[VirtualMachine, Operation]:
    """An operation of this kind, accepted and not yet begun, and the VM it makes or works on."""
    if vm is None:
        return actions.create_vm(asked=a_new_vm(cloud_init=USER_DATA), by=by)
    if kind == "clone_vm":
        return actions.clone_vm(vm=vm, asked=CloneOf(name="copy"), by=by)
    operation = VERBS[kind](vm, by)
    assert operation is not None
    return vm, operation


VERBS: dict[str, Callable[[VirtualMachine, Actor], Operation | None]] = {
    "start_vm": lambda vm, by: actions.start_vm(vm=vm, by=by),
    "stop_vm": lambda vm, by: actions.stop_vm(vm=vm, force=True, timeout_s=60, by=by),
    "shutdown_vm": lambda vm, by: actions.shutdown_vm(vm=vm, force=True, timeout_s=60, by=by),
    "reboot_vm": lambda vm, by: actions.reboot_vm(vm=vm, timeout_s=60, by=by),
    "reset_vm": lambda vm, by: actions.reset_vm(vm=vm, by=by),
    "suspend_vm": lambda vm, by: actions.suspend_vm(vm=vm, by=by),
    "resume_vm": lambda vm, by: actions.resume_vm(vm=vm, by=by),
    "migrate_vm": lambda vm, by: actions.migrate_vm(vm=vm, node=another_node(vm), by=by),
    "take_snapshot": lambda vm, by: actions.take_snapshot(
        vm=vm, name="before", description="", include_ram=False, by=by
    ),
    "delete_snapshot": lambda vm, by: actions.delete_snapshot(vm=vm, name="first", by=by),
    "rollback_snapshot": lambda vm, by: actions.rollback_snapshot(
        vm=vm, name="first", start=True, by=by
    ),
    "update_vm": lambda vm, by: actions.update_vm(
        vm=vm,
        changes=VmChanges(cores=2, disk_gib=6, tags=("changed",), cloud_init=USER_DATA),
        by=by,
    ),
    "convert_vm": lambda vm, by: actions.convert_vm(vm=vm, by=by),
    "delete_vm": lambda vm, by: actions.delete_vm(vm=vm, by=by),
    "mark_vm": lambda vm, by: actions.mark_vm(vm=vm, by=by),
}


def vm_for(kind: str, sim: SimulatorThread, by: Actor) -> VirtualMachine | None:
    """The VM that an operation of this kind needs, in the state that it needs it in."""
    if kind == "create_vm":
        return None
    stopped = kind in {"start_vm", "clone_vm", "convert_vm", "update_vm"}
    # With an ISO of its own wherever a plan has to do with it; on local storage it may not move.
    has_iso = kind in {"clone_vm", "convert_vm", "rollback_snapshot", "delete_vm"}
    vm = a_vm(sim, by, running=not stopped, cloud_init=USER_DATA if has_iso else CloudInit())
    before = {"resume_vm": "suspend_vm"}.get(kind)
    if before:
        finish(ask_for(before, vm, by)[1])
    if kind in {"delete_snapshot", "rollback_snapshot"}:
        finish(actions.take_snapshot(vm=vm, name="first", description="", include_ram=False, by=by))
    if kind == "mark_vm":
        sim.change(lambda s: s.world.guests[vm.vmid].config.pop("description"))
    vm.refresh_from_db()
    return vm


def finish(operation: Operation) -> Operation:
    ended: Operation = run_until(
        lambda: Operation.objects.get(pk=operation.pk), lambda o: o.is_ended
    )
    assert ended.state == "succeeded", ended.error
    return ended


def another_node(vm: VirtualMachine) -> str:
    return next(node for node in ("pve", "pve2", "pve3") if node != vm.node)
