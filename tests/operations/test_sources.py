"""What is worked on, or made from, moves, hides and goes meanwhile."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from proxmox import Client
from proxmox.results import Resources
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from tests.vms.cast import a_new_vm, a_vm, ask_for
from vms import actions, job
from vms.asked import CloneOf

pytestmark = pytest.mark.django_db(transaction=True)

MISSED = "Configuration file 'nodes/pve/qemu-server/9000.conf' does not exist"


def test_a_node_that_misses_a_template_for_a_moment_is_asked_again(cluster, sim, operator, work):
    """As one does while its cluster filesystem restarts."""
    sim.add_fault("status", method="POST", path=r"/9000/clone$", status=500, text=MISSED)
    vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    assert work(operation).state == "succeeded"
    assert sim.guest(vm.vmid) is not None
    assert len(sim.calls_to("POST", r"/9000/clone$")) == 1


@pytest.mark.parametrize("kind", ["delete_vm", "start_vm"])
def test_an_empty_list_proves_no_vm_gone(kind, cluster, sim, operator, work, monkeypatch):
    """As a node answers, to a ticket of root's, while its cluster filesystem restarts."""
    vm = a_vm(sim, operator, running=False)
    _, operation = ask_for(kind, vm, operator)
    sim.add_fault(
        "status", path=rf"/qemu/{vm.vmid}/config$", status=500, text=MISSED.replace("9000", "100")
    )
    read = Client.resources

    def empty(client: Client, **values: Any) -> Resources:
        monkeypatch.setattr(Client, "resources", read)
        return dataclasses.replace(read(client, **values), guests=())

    monkeypatch.setattr(Client, "resources", empty)
    ended = work(operation)
    assert ended.state == "succeeded", ended.error
    assert Client.resources is read, "else nothing was missed"
    assert (sim.guest(vm.vmid) is None) == (kind == "delete_vm")


def test_a_list_that_stays_empty_is_believed(cluster, sim, operator, work, monkeypatch):
    """Somebody has deleted the last VM of a node without templates."""
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    sim.change(lambda s: s.world.guests.clear())
    monkeypatch.setattr(job, "EMPTY_FOR_S", 1.0)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "vm_gone")


def test_a_template_that_has_moved_is_followed(cluster, sim, operator, work):
    vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    sim.change(lambda s: setattr(s.world.guests[9000], "node", "pve2"))
    ended = work(operation)
    assert ended.state == "succeeded", ended.error
    assert ended.warnings == ["The template ubuntu-22.04 (9000) has moved to pve2."]
    assert sim.guest(vm.vmid) is not None


def test_a_template_that_is_gone_is_said_and_nothing_is_left(cluster, sim, operator, work):
    vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    sim.change(lambda s: s.world.guests.pop(9000))
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "template_gone")
    assert "ubuntu-22.04 (9000) is no longer on the cluster" in ended.error
    assert sim.guest(vm.vmid) is None


def test_a_template_whose_number_is_a_vms_now_is_not_cloned(cluster, sim, operator, work):
    def replace(s: Simulator) -> None:
        s.world.guests[9000].config.pop("template")
        s.world.guests[9000].node = "pve2"

    vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    sim.change(replace)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "template_replaced")
    assert sim.guest(vm.vmid) is None


def test_a_vm_that_moved_before_it_was_cloned_is_followed(
    cluster, sim: SimulatorThread, operator, work
):
    source = a_vm(sim, operator, running=False)
    elsewhere = next(node for node in ("pve", "pve2") if node != source.node)
    _, operation = actions.clone_vm(vm=source, asked=CloneOf(name="copy"), by=operator)
    sim.change(lambda s: setattr(s.world.guests[source.vmid], "node", elsewhere))
    ended = work(operation)
    assert ended.state == "succeeded", ended.error


def test_a_creation_does_not_read_the_list_of_all_vms(cluster, sim, operator, work):
    _, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    before = len(sim.calls_to("GET", r"/cluster/resources"))
    assert work(operation).state == "succeeded"
    assert len(sim.calls_to("GET", r"/cluster/resources")) == before
    # Once to choose its number, once before it is made under it.
    assert len(sim.calls_to("GET", r"/cluster/nextid")) == 2
