"""The standing cast: a VM made through Izvor, and one operation of each kind on it."""

from __future__ import annotations

from accounts.actors import Actor
from operations.models import Operation
from pve_simulator.testing import SimulatorThread
from tests.conftest import run_until
from vms import actions
from vms.asked import NewVm
from vms.models import VirtualMachine


def a_new_vm(name: str = "web", **asked: object) -> NewVm:
    values: dict[str, object] = {
        "name": name,
        "template": "ubuntu-22.04",
        "linked": True,
        "cores": 1,
        "memory_mib": 512,
        "disk_gib": 5,
        "tags": ("izvor",),
    }
    return NewVm(**{**values, **asked})  # type: ignore[arg-type]


def a_vm(
    sim: SimulatorThread, by: Actor, *, running: bool = True, **asked: object
) -> VirtualMachine:
    """One that exists, made by the engine itself."""
    vm, operation = actions.create_vm(asked=a_new_vm(start_on_create=running, **asked), by=by)
    ended = run_until(lambda: Operation.objects.get(pk=operation.pk), lambda o: o.is_ended)
    assert ended.state == "succeeded", ended.error
    vm.refresh_from_db()
    return vm


def ask_for(kind: str, vm: VirtualMachine | None, by: Actor) -> tuple[VirtualMachine, Operation]:
    """An operation of this kind, accepted and not yet begun."""
    if vm is None:
        return actions.create_vm(asked=a_new_vm(), by=by)
    if kind == "start_vm":
        return vm, actions.start_vm(vm=vm, by=by)
    if kind == "stop_vm":
        return vm, actions.stop_vm(vm=vm, force=True, timeout_s=60, by=by)
    if kind == "shutdown_vm":
        return vm, actions.shutdown_vm(vm=vm, force=True, timeout_s=60, by=by)
    if kind == "reboot_vm":
        return vm, actions.reboot_vm(vm=vm, timeout_s=60, by=by)
    if kind == "delete_vm":
        return vm, actions.delete_vm(vm=vm, by=by)
    raise LookupError(f"no scenario for {kind}: a new kind needs one")
