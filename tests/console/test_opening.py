"""What is asked of Proxmox when a console opens: the screen of that very VM, wherever it runs."""

from __future__ import annotations

import pytest

from operations.refusals import Conflict, NotFound, Unavailable
from proxmox import Forbidden, Unreachable
from pve_simulator import accidents
from vms import console
from vms.models import RUNNING, VirtualMachine

pytestmark = pytest.mark.django_db

STRANGER = "uuid=11111111-2222-4333-8444-555555555555"


@pytest.fixture
def vm(cluster):
    return VirtualMachine.objects.select_related("cluster").get(vmid=100)


def test_it_is_the_screen_of_the_vm(vm, sim):
    opening = console.ask_for_screen(vm)
    assert opening.vnc.port in range(5900, 6000)
    assert opening.vnc.endpoint.port == sim.port
    assert opening.vnc.address == "127.0.0.1"
    for secret in (opening.vnc.ticket, opening.vnc.password, sim.token_secret):
        assert secret not in repr(opening)


def test_another_vm_under_its_number_is_left_alone(vm, sim):
    sim.change(lambda s: s.world.guests[100].config.update(smbios1=STRANGER))
    with pytest.raises(Conflict) as refused:
        console.ask_for_screen(vm)
    assert refused.value.code == "vm_replaced"
    assert sim.calls_to("POST", "/vncproxy$") == []


def test_one_that_was_stopped_meanwhile_says_so(vm, sim):
    sim.change(lambda s: setattr(s.world.guests[100], "is_running", False))
    with pytest.raises(Conflict, match="is stopped"):
        console.ask_for_screen(vm)
    assert sim.calls_to("POST", "/vncproxy$") == []


def test_one_that_is_gone_says_so(vm, sim):
    sim.change(lambda s: s.world.guests.pop(100))
    with pytest.raises(NotFound, match="no longer on the cluster"):
        console.ask_for_screen(vm)


def test_one_that_has_moved_is_found(vm, sim):
    sim.change(lambda s: setattr(s.world.guests[100], "node", "pve2"))
    assert "/nodes/pve2/qemu/100/" in console.ask_for_screen(vm).vnc.path
    vm.refresh_from_db()
    assert (vm.node, vm.power) == ("pve2", RUNNING)


def test_a_missing_privilege_is_named(vm, sim, cluster):
    sim.add_fault(
        "status",
        method="POST",
        path="/vncproxy$",
        status=403,
        text="Permission check failed (/vms/100, VM.Console)",
    )
    with pytest.raises(Forbidden) as refused:
        console.ask_for_screen(vm)
    assert (refused.value.privilege, refused.value.path) == ("VM.Console", "/vms/100")


def test_a_silent_cluster_and_one_that_is_switched_off_are_told_apart(vm, sim):
    sim.cause(accidents.node_down, node="pve")
    with pytest.raises(Unreachable):
        console.ask_for_screen(vm)
    vm.cluster.is_enabled = False
    with pytest.raises(Unavailable) as refused:
        console.ask_for_screen(vm)
    assert refused.value.code == "cluster_disabled"
