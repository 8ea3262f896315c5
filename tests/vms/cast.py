"""The standing cast: a VM made through Izvor, and one operation of each kind on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from accounts.actors import Actor
from operations.models import Operation
from pve_simulator.testing import SimulatorThread
from templates_app.models import Template
from tests.conftest import run_until
from tests.images import ImageServer
from vms import actions, template_actions
from vms.asked import CloneOf, CloudInit, NewTemplate, NewVm, VmChanges
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


def ask_for(kind: str, vm: Any, by: Actor) -> tuple[Any, Operation]:
    """An operation of this kind, accepted and not yet begun, and the VM it makes or works on."""
    if kind in MAKING:
        made = MAKING[kind](by)
        return VirtualMachine.objects.subject_of(made).get(), made
    if kind == "delete_template":
        return vm, template_actions.delete_template(template=vm, by=by)
    if kind == "clone_vm":
        return actions.clone_vm(vm=vm, asked=CloneOf(name="copy"), by=by)
    operation = VERBS[kind](vm, by)
    assert operation is not None
    return vm, operation


def an_image() -> str:
    """The address of one that can be downloaded; it is served until the tests end."""
    return f"{_served().url}/debian.qcow2"


@cache
def _served() -> ImageServer:
    images = ImageServer()
    threading.Thread(target=images.server.serve_forever, daemon=True).start()
    return images


ISO = "local:iso/debian-12.11.0-amd64-netinst.iso"
# Kinds that make what they work on.
MAKING: dict[str, Callable[[Actor], Operation]] = {
    "create_vm": lambda by: actions.create_vm(asked=a_new_vm(cloud_init=USER_DATA), by=by)[1],
    "install_vm": lambda by: actions.create_vm(
        asked=a_new_vm(template="", os_template=ISO, linked=False), by=by
    )[1],
    "build_template": lambda by: template_actions.build_template(
        asked=NewTemplate(name="built", url=an_image(), disk_gib=4, network="vmbr1"), by=by
    ),
    "copy_template": lambda by: template_actions.copy_template(
        template=Template.objects.get(name="rocky-9", copy_of=None), node="pve3", storage="", by=by
    ),
}
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


def vm_for(kind: str, sim: SimulatorThread, by: Actor) -> Any:
    """What an operation of this kind needs, in the state that it needs it in."""
    if kind in MAKING:
        # What an earlier one of the same test has made would stand in its way.
        Template.objects.filter(name="built").delete()
        Template.objects.exclude(copy_of=None).delete()
        return None
    if kind in {"convert_vm", "delete_template"}:
        # Of its name there can be one.
        Template.objects.filter(name="web").update(name="older")
    if kind == "delete_template":
        vm = a_vm(sim, by, running=False, linked=False)
        finish(actions.convert_vm(vm=vm, by=by))
        return Template.objects.get(vmid=vm.vmid)
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
