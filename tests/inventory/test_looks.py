"""What a look at a cluster writes: what changed, and nothing that is not so."""

from __future__ import annotations

import datetime
import re
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from clusters.connect import connect, forget_clients
from clusters.models import SIMULATOR, Cluster, Network, Node, Storage
from events.models import Event
from inventory import cycle, guests
from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from tests.conftest import run_until
from tests.inventory.looking import fresh, look, vm_of
from tests.vms.cast import a_vm
from vms import actions
from vms.models import PAUSED, RUNNING, STOPPED, UNKNOWN, Size, VirtualMachine

pytestmark = pytest.mark.django_db


def rows(cluster: Cluster) -> list[Any]:
    return list(VirtualMachine.objects.filter(cluster=cluster).order_by("pk").values())


# --- how much a look costs ---


def test_a_look_asks_for_the_list_once_and_for_nothing_else(cluster, sim):
    sim.forget_calls()
    look(cluster)
    assert [(call.method, call.path) for call in sim.calls] == [("GET", "/cluster/resources")]


@pytest.mark.services
def test_an_unchanged_look_writes_no_vm(cluster, sim):
    fresh(sim)
    look(cluster)
    before = rows(cluster)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        look(cluster)
    writes = [q["sql"] for q in queries if re.match(r"(UPDATE|INSERT|DELETE)", q["sql"])]
    assert [sql for sql in writes if '"vms_virtualmachine"' in sql.split("WHERE")[0]] == []
    assert rows(cluster) == before


@pytest.mark.parametrize("vms", [8, 60])
def test_a_look_takes_the_same_queries_for_many_as_for_few(vms, project):
    with SimulatorThread(speed=50, seed=1, vms=vms) as sim:
        cluster = Cluster(
            name="many",
            kind=SIMULATOR,
            endpoints=[sim.url],
            token_id=sim.token_id,
            ca_pem=sim.ca_file.read_text(),
        )
        cluster.secret = sim.token_secret
        cluster.save()
        cycle.look_at(cluster, with_details=False)
        with CaptureQueriesContext(connection) as queries:
            cycle.look_at(cluster, with_details=False)
        assert cluster.vms.count() == vms
        assert len(queries) <= 20
        forget_clients()


def test_a_cluster_is_looked_at_by_one_and_not_before_it_is_due(cluster, sim, settings):
    sim.forget_calls()
    soon = timezone.now() + datetime.timedelta(hours=1)
    Cluster.objects.filter(pk=cluster.pk).update(look_due_at=soon)
    cycle.run_cycle(cluster.pk)
    Cluster.objects.filter(pk=cluster.pk).update(look_due_at=timezone.now(), look_lease_until=soon)
    cycle.run_cycle(cluster.pk)
    Cluster.objects.filter(pk=cluster.pk).update(look_lease_until=None, is_enabled=False)
    cycle.run_cycle(cluster.pk)
    assert sim.calls == []
    Cluster.objects.filter(pk=cluster.pk).update(is_enabled=True)
    cycle.run_cycle(cluster.pk)
    cycle.run_cycle(cluster.pk)
    assert len(sim.calls_to("GET", "^/cluster/resources$")) == 1


# --- what is found, changed and gone ---


def test_what_is_found_belongs_to_nobody(cluster, sim):
    found = cluster.vms.all()
    assert {vm.vmid for vm in found} == set(range(100, 108))
    assert {(vm.project, vm.is_ours, vm.doing) for vm in found} == {(None, False, "")}
    by_vmid = {vm.vmid: vm for vm in found}
    assert by_vmid[100].power == RUNNING
    assert by_vmid[102].power == STOPPED
    assert by_vmid[105].power == PAUSED
    assert by_vmid[100].name == sim.guest(100).config["name"]
    assert f"uuid={by_vmid[100].smbios_uuid}" == sim.guest(100).config["smbios1"]
    assert {n.name for n in Node.objects.all()} == {"pve", "pve2", "pve3"}
    assert Storage.objects.filter(name="ceph", is_shared=True).count() == 3


def test_what_was_changed_outside_is_followed_and_said(cluster, sim, project):
    cluster.vms.filter(vmid=102).update(project=project)
    for key, value in (("cores", 7), ("memory", 4096), ("name", "renamed"), ("tags", "b;a")):
        sim.cause(accidents.set_option, vmid=102, key=key, value=value)
    fresh(sim)
    look(cluster)
    vm = vm_of(cluster, 102)
    assert (vm.cores, vm.memory_mib, vm.name, vm.tags) == (7, 4096, "renamed", ["a", "b"])
    event = Event.objects.get(kind="vm.changed_outside")
    assert (event.subject, event.project, event.actor) == (vm.uuid, project, "proxmox")
    assert event.data["changes"]["cores"] == [3, 7]
    assert set(event.data["changes"]) == {"cores", "memory_mib", "name", "tags"}
    look(cluster)
    assert Event.objects.filter(kind="vm.changed_outside").count() == 1


def test_what_has_other_hardware_than_its_size_has_none(cluster, sim):
    size = Size.objects.create(name="of-both", cores=3, memory_mib=1024, disk_gib=8)
    cluster.vms.filter(vmid__in=(101, 102)).update(size=size)
    sim.cause(accidents.set_option, vmid=102, key="memory", value=4096)
    fresh(sim)
    look(cluster)
    assert vm_of(cluster, 102).size is None
    assert vm_of(cluster, 101).size == size


def test_tags_in_another_order_are_no_change(cluster, sim):
    # 102 has the tags demo and test.
    sim.change(lambda s: s.world.guests[102].config.update(tags="test;demo"))
    fresh(sim)
    look(cluster)
    assert vm_of(cluster, 102).tags == ["demo", "test"]
    assert not Event.objects.filter(kind="vm.changed_outside").exists()


def test_power_follows_without_an_event(cluster, sim):
    sim.cause(accidents.crash_guest, vmid=100)
    fresh(sim)
    look(cluster)
    assert vm_of(cluster, 100).power == STOPPED
    assert not Event.objects.filter(kind="vm.changed_outside").exists()


def test_a_paused_vm_that_goes_on_is_seen_to_run(cluster, sim):
    assert vm_of(cluster, 105).power == PAUSED
    sim.change(lambda s: setattr(s.world.guests[105], "is_paused", False))
    fresh(sim)
    look(cluster)
    assert vm_of(cluster, 105).power == PAUSED, "the list alone cannot tell"
    a_while_ago = timezone.now() - datetime.timedelta(minutes=2)
    cluster.vms.filter(vmid=105).update(details_at=a_while_ago)
    look(cluster)
    assert vm_of(cluster, 105).power == RUNNING


def test_what_vanishes_is_marked_and_stays(cluster, sim, api, project):
    cluster.vms.filter(vmid=102).update(project=project)
    sim.change(lambda s: s.world.guests.pop(102))
    fresh(sim)
    look(cluster)
    vm = vm_of(cluster, 102)
    assert vm.missing_since is not None
    assert vm.power == UNKNOWN
    assert (vm.name, vm.cores) == ("cache-01", 3)
    shown = api.get("/api/v1/vms/102").json()
    assert (shown["stale"], shown["status"]) == (True, "unknown")
    look(cluster)
    assert Event.objects.filter(kind="vm.missing", project=project).count() == 1


def test_what_comes_back_is_itself_again(cluster, sim):
    guest = sim.change(lambda s: s.world.guests.pop(102))
    fresh(sim)
    look(cluster)
    uuid = vm_of(cluster, 102).uuid
    sim.change(lambda s: s.world.guests.update({102: guest}))
    fresh(sim)
    look(cluster)
    vm = vm_of(cluster, 102)
    assert (vm.uuid, vm.missing_since, vm.power) == (uuid, None, STOPPED)


def test_another_vm_under_the_number_is_another_row(cluster, sim, project):
    cluster.vms.filter(vmid=102).update(project=project, details_at=None)
    ours = vm_of(cluster, 102)
    other = "11111111-2222-4333-8444-555555555555"
    sim.change(lambda s: s.world.guests[102].config.update(smbios1=f"uuid={other}", name="new"))
    fresh(sim)
    look(cluster)
    theirs = vm_of(cluster, 102)
    assert theirs.pk != ours.pk
    assert (theirs.project, str(theirs.smbios_uuid), theirs.is_ours) == (None, other, False)
    ours.refresh_from_db()
    assert ours.deleted_at is not None
    assert Event.objects.get(kind="vm.replaced").subject == ours.uuid


def test_a_vm_that_ha_has_moved_is_followed(cluster, sim):
    home = sim.guest(104).node
    other = next(node for node in ("pve", "pve2", "pve3") if node != home)
    sim.cause(accidents.ha_move, vmid=104, node=other)
    fresh(sim)
    look(cluster)
    vm = vm_of(cluster, 104)
    assert (vm.node, vm.missing_since) == (other, None)
    changes = Event.objects.get(kind="vm.changed_outside").data["changes"]
    assert changes == {"node": [home, other]}


# --- the list lags behind ---


def test_a_list_asked_for_before_an_operation_settled_does_not_count(cluster, sim):
    later = timezone.now() + datetime.timedelta(seconds=15)
    cluster.vms.filter(vmid=100).update(settled_at=later, power=STOPPED, name="just-renamed")
    cluster.vms.filter(vmid=101).update(settled_at=timezone.now(), name="long-settled")
    look(cluster)
    vm = vm_of(cluster, 100)
    assert (vm.power, vm.name) == (STOPPED, "just-renamed")
    assert vm_of(cluster, 101).name == "db-01"


def test_a_vm_at_work_is_left_to_its_operation(cluster, sim, operator):
    actions.stop_vm(vm=vm_of(cluster, 100), force=True, timeout_s=60, by=operator)
    sim.change(lambda s: s.world.guests.pop(100))
    fresh(sim)
    look(cluster)
    vm = vm_of(cluster, 100)
    assert (vm.missing_since, vm.power) == (None, RUNNING)


@pytest.mark.django_db(transaction=True)
def test_a_vm_deleted_just_now_is_not_found_again_in_the_lagging_list(cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    fresh(sim)
    resources = connect(cluster).resources(timeout_s=5)
    assert vm.vmid in {guest.vmid for guest in resources.guests}
    operation = actions.delete_vm(vm=vm, by=operator)
    run_until(lambda: operation.__class__.objects.get(pk=operation.pk), lambda o: o.is_ended)
    # What a node's statistics still show seconds later.
    guests.sync_guests(cluster, resources, timezone.now())
    assert not cluster.vms.filter(vmid=vm.vmid, deleted_at=None).exists()
    # Long after, the number may be somebody else's: then it is found.
    VirtualMachine.objects.filter(pk=vm.pk).update(settled_at=timezone.now())
    guests.sync_guests(cluster, resources, timezone.now())
    assert cluster.vms.get(vmid=vm.vmid, deleted_at=None).project is None


def test_what_is_being_cloned_elsewhere_is_found_when_it_is_there(cluster, sim):
    def clone_begins(s: Simulator) -> None:
        source = s.world.guests[102]
        config = {**source.config, "lock": "clone", "name": "placeholder"}
        s.world.guests[900] = source.__class__(900, source.node, config)

    sim.change(clone_begins)
    fresh(sim)
    look(cluster)
    assert not cluster.vms.filter(vmid=900).exists()
    sim.cause(accidents.set_lock, vmid=900, lock=None)
    fresh(sim)
    look(cluster)
    assert cluster.vms.get(vmid=900).name == "placeholder"


# --- a silent node ---


def test_a_silent_node_takes_no_names_and_sizes_away(cluster, sim):
    before = {vm.vmid: vm for vm in cluster.vms.filter(node="pve2")}
    sim.cause(accidents.node_down, node="pve2")
    sim.cause(accidents.age_silence, node="pve2", seconds=400)
    fresh(sim)
    look(cluster)
    assert cluster.state == "online"
    assert Node.objects.get(name="pve2").status == "offline"
    for vmid, known in before.items():
        vm = vm_of(cluster, vmid)
        assert vm.power == UNKNOWN
        assert (vm.name, vm.node, vm.cores, vm.memory_mib, vm.disk_bytes) == (
            known.name,
            known.node,
            known.cores,
            known.memory_mib,
            known.disk_bytes,
        )
    assert not Event.objects.filter(kind__in=["vm.changed_outside", "vm.missing"]).exists()
    assert cluster.templates.get(vmid=9002).missing_since is None
    assert cluster.templates.get(vmid=9002).name == "rocky-9"

    sim.cause(accidents.node_up, node="pve2")
    fresh(sim)
    look(cluster)
    assert {vm_of(cluster, vmid).power for vmid in before} <= {STOPPED, RUNNING}


# --- details ---


def test_a_template_is_read_in_detail(cluster, sim):
    ubuntu = cluster.templates.get(vmid=9000)
    assert ubuntu.storages == ["ceph"]
    assert ubuntu.is_on_shared_storage
    assert ubuntu.has_cloud_init
    assert ubuntu.disk_bytes == 2252 * 1024**2
    assert ubuntu.created_at is not None
    rocky = cluster.templates.get(vmid=9002)
    assert (rocky.storages, rocky.is_on_shared_storage) == (["local-lvm"], False)
    assert rocky.disk_bytes == 10 * 1024**3


def test_a_template_that_is_gone_is_offered_no_more(cluster, sim, api):
    sim.change(lambda s: s.world.guests.pop(9001))
    fresh(sim)
    look(cluster)
    assert api.get("/api/v1/templates/9001").status_code == 404
    assert cluster.templates.get(vmid=9001).missing_since is not None


def test_a_template_whose_number_becomes_a_vm_is_gone(cluster, sim):
    sim.change(lambda s: s.world.guests[9001].config.pop("template"))
    fresh(sim)
    look(cluster)
    assert cluster.templates.get(vmid=9001).missing_since is not None
    assert vm_of(cluster, 9001).name == "debian-12"


def test_bridges_are_read_from_each_node(cluster, sim):
    found = set(Network.objects.values_list("node", "name"))
    assert found == {
        (node, name) for node in ("pve", "pve2", "pve3") for name in ("vmbr0", "vmbr1")
    }
    sim.change(lambda s: s.world.nodes["pve"].bridges.pop())
    Node.objects.update(networks_due_at=timezone.now())
    look(cluster)
    assert set(Network.objects.filter(node="pve").values_list("name", flat=True)) == {"vmbr0"}
