"""What is known of single VMs: addresses, usage, and what a guest can say of itself."""

from __future__ import annotations

import copy
import datetime
import uuid
from typing import Any

import pytest
from django.utils import timezone

from clusters.connect import connect
from clusters.models import Cluster
from inventory.details import VMS_A_LOOK, read_vm
from proxmox import Client
from proxmox.results import AgentInterface
from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from templates_app.models import Template
from tests.conftest import run_until
from tests.inventory.looking import fresh, look, vm_of
from tests.vms.cast import a_vm, finish
from vms import actions
from vms.asked import VmChanges
from vms.marks import Mark, with_mark
from vms.models import VirtualMachine
from vms.refresh import agent_addresses

pytestmark = pytest.mark.django_db


def test_the_agents_address_is_the_one_of_the_first_network_card(cluster, sim):
    vm = vm_of(cluster, 100)
    assert vm.ip_address is not None
    told = connect(cluster).agent_interfaces(vm.node, vm.vmid, timeout_s=5)
    mine = [i for i in told if (i.mac or "").lower() == vm.mac_address.lower()]
    assert vm.ip_address in [address.ip for i in mine for address in i.addresses]


def test_a_bridge_inside_the_guest_is_not_its_address():
    def interface(name: str, mac: str, *ips: str) -> AgentInterface:
        return AgentInterface.from_api(
            {
                "name": name,
                "hardware-address": mac,
                "ip-addresses": [
                    {
                        "ip-address": ip,
                        "ip-address-type": "ipv6" if ":" in ip else "ipv4",
                        "prefix": 24,
                    }
                    for ip in ips
                ],
            }
        )

    interfaces = (
        interface("lo", "00:00:00:00:00:00", "127.0.0.1", "::1"),
        interface("docker0", "02:42:ac:11:00:01", "172.17.0.1"),
        interface("eth0", "bc:24:11:aa:bb:cc", "fe80::1", "192.0.2.10", "2001:db8::10"),
    )
    assert agent_addresses(interfaces, "BC:24:11:AA:BB:CC") == ["192.0.2.10", "2001:db8::10"]


def test_an_agent_that_died_leaves_what_cloud_init_says(cluster, sim):
    sim.cause(accidents.set_option, vmid=100, key="ipconfig0", value="ip=192.0.2.9/24,gw=192.0.2.1")
    sim.cause(accidents.agent_dead, vmid=100)
    cluster.vms.filter(vmid=100).update(details_at=None)
    look(cluster)
    assert vm_of(cluster, 100).ip_address == "192.0.2.9"


def test_addresses_come_with_each_start_however_old_the_vm_and_go_with_each_stop(
    cluster, sim, operator
):
    vm = a_vm(sim, operator, running=False)
    long_ago = timezone.now() - datetime.timedelta(days=9)
    cluster.vms.filter(pk=vm.pk).update(created_at=long_ago)

    def looked_at() -> VirtualMachine:
        fresh(sim)
        look(cluster)
        return vm_of(cluster, vm.vmid)

    for _ in range(2):
        finish(actions.start_vm(vm=looked_at(), by=operator))
        assert vm_of(cluster, vm.vmid).ip_address is None
        run_until(looked_at, lambda vm: vm.ip_address)
        finish(actions.stop_vm(vm=looked_at(), force=True, timeout_s=1, by=operator))
        assert looked_at().ip_address is None


def test_an_address_that_was_changed_is_read_after_the_next_start(cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    cluster.vms.filter(pk=vm.pk).update(ip_address="192.0.2.77", details_at=timezone.now())
    finish(actions.start_vm(vm=vm, by=operator))

    def looked_at() -> str | None:
        fresh(sim)
        look(cluster)
        return vm_of(cluster, vm.vmid).ip_address

    run_until(looked_at, lambda address: address not in {None, "192.0.2.77"})


def silence(sim: Any, how: str) -> None:
    if how == "down":
        sim.cause(accidents.node_down, node="pve3")
    else:
        sim.add_fault("status", path="/nodes/pve3/qemu", status=596, text="tls", count=99999)
    fresh(sim)


@pytest.mark.parametrize("how", ["down", "silent"])
def test_a_node_that_is_down_keeps_nobody_elses_vms_from_being_read(cluster, sim, how):
    def many_on_pve3(live: Any) -> None:
        for vmid in range(300, 300 + VMS_A_LOOK):
            guest = copy.deepcopy(live.world.guests[100])
            guest.vmid, guest.node = vmid, "pve3"
            guest.config |= {"name": f"v{vmid}", "smbios1": f"uuid={uuid.UUID(int=vmid)}"}
            live.world.guests[vmid] = guest

    sim.change(many_on_pve3)
    fresh(sim)
    look(cluster)
    now = timezone.now()
    cluster.vms.update(details_at=now - datetime.timedelta(minutes=20))
    cluster.vms.filter(node="pve3").update(details_at=now - datetime.timedelta(hours=1))
    silence(sim, how)
    for _ in range(2):
        look(cluster)
    assert not cluster.vms.exclude(node="pve3").filter(details_at__lt=now).exists()


@pytest.fixture
def unread(cluster: Cluster, sim: SimulatorThread) -> list[int]:
    """Two templates on one node, and a third on another, that were never read."""

    def move(live: Simulator) -> None:
        for vmid in (9000, 9001):
            live.world.guests[vmid].node = "pve3"

    sim.change(move)
    fresh(sim)
    look(cluster)
    Template.objects.update(details_at=None)
    return [9000, 9001]


def read_templates_of(cluster: Cluster) -> list[int]:
    look(cluster)
    return list(cluster.templates.exclude(details_at=None).values_list("vmid", flat=True))


def test_a_node_that_is_down_is_not_asked_for_its_templates(cluster, sim, unread):
    silence(sim, "down")
    sim.forget_calls()
    assert read_templates_of(cluster) == [9002]
    assert sim.calls_to("GET", "^/nodes/pve3/qemu") == []


def test_a_node_that_is_silent_is_asked_for_its_templates_once_a_look(cluster, sim, unread):
    sim.add_fault("status", path="/nodes/pve3/qemu", status=596, text="tls", count=1)
    assert read_templates_of(cluster) == [9002]
    assert sorted(read_templates_of(cluster)) == [*unread, 9002]


def test_what_was_stopped_uses_nothing(cluster, sim, operator, api):
    vm = a_vm(sim, operator)

    def used_memory() -> int:
        fresh(sim)
        look(cluster)
        used: int = api.get(f"/api/v1/vms/{vm.vmid}").json()["memory_used"]
        return used

    run_until(used_memory, bool)
    finish(actions.stop_vm(vm=vm, force=True, timeout_s=1, by=operator))
    shown = api.get(f"/api/v1/vms/{vm.vmid}").json()
    used = ("cpu_usage", "memory_used", "disk_read", "disk_write", "net_in", "net_out", "uptime")
    assert {name: shown[name] for name in used} == dict.fromkeys(used, 0)


@pytest.mark.parametrize("said", ["2001:db8::1%eth0", "not-an-ip", "10.0.0.5/24"])
def test_what_a_guest_says_of_its_address_stops_nobody_elses_reading(
    cluster, sim, operator, monkeypatch, said
):
    vm = a_vm(sim, operator)
    asked = Client.agent_interfaces

    def interfaces(client: Client, node: str, vmid: int, **more: Any) -> Any:
        if vmid != vm.vmid:
            return asked(client, node, vmid, **more)
        address = {"ip-address": said, "prefix": 64, "ip-address-type": "ipv6"}
        mac = vm_of(cluster, vmid).mac_address
        shown = {"name": "eth0", "hardware-address": mac, "ip-addresses": [address]}
        return (AgentInterface.from_api(shown),)

    monkeypatch.setattr(Client, "agent_interfaces", interfaces)
    began = timezone.now()
    cluster.vms.update(details_at=None)
    look(cluster)
    assert not cluster.vms.filter(deleted_at=None, details_at__lt=began).exists()
    assert not cluster.vms.filter(deleted_at=None, details_at=None).exists()
    assert vm_of(cluster, vm.vmid).ip_address is None


def test_a_long_tag_is_cut_and_stops_no_look(cluster, sim):
    vm = vm_of(cluster, 102)
    connect(cluster).update_config(vm.node, vm.vmid, changes={"tags": "t" * 101})
    fresh(sim)
    look(cluster)
    assert vm_of(cluster, 102).tags == ["t" * 100]


def test_what_was_read_before_a_task_is_not_written_after_it(cluster, sim, operator, monkeypatch):
    vm = a_vm(sim, operator)
    # Not seen yet, so that there is something to write.
    found = with_mark("from outside", Mark(cluster=cluster.uuid, vm=vm.uuid, vmid=vm.vmid))
    sim.cause(accidents.set_option, vmid=vm.vmid, key="description", value=found)
    asked = Client.agent_interfaces

    def interfaces(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(Client, "agent_interfaces", asked)
        mine = VmChanges(description="mine")
        task = actions.update_vm(vm=vm_of(cluster, vm.vmid), changes=mine, by=operator)
        assert task is not None
        finish(task)
        return asked(*args, **more)

    monkeypatch.setattr(Client, "agent_interfaces", interfaces)
    read_vm(vm_of(cluster, vm.vmid), connect(cluster))
    assert Client.agent_interfaces is asked
    assert vm_of(cluster, vm.vmid).description == "mine"
