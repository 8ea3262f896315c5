"""Templates that are not in the list for a while: they come back as what they were, to whom they
belonged, or as somebody else's."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.actors import MEMBER, Actor
from accounts.models import Project
from clusters.models import Cluster
from events.models import Event
from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from templates_app.models import Template
from tests.api.shapes import Caller
from tests.conftest import client_with
from tests.inventory.looking import fresh, look, vm_of
from tests.vms.cast import a_new_vm, a_vm, finish
from vms import actions, template_actions
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1/templates"
OTHER = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def member(project: Project) -> Caller:
    return Caller(client_with(project, MEMBER))


@pytest.fixture
def stranger(project: Project) -> Caller:
    return Caller(client_with(Project.objects.create(name="neighbour"), MEMBER))


@pytest.fixture
def by(project: Project) -> Actor:
    return Actor(name="token:member", role=MEMBER, project=project)


@pytest.fixture
def private(cluster: Cluster, sim: SimulatorThread, by: Actor) -> Template:
    """What a member made of its VM."""
    vm = a_vm(sim, by, running=False, linked=False, name="golden")
    finish(actions.convert_vm(vm=vm, by=by))
    look_later(cluster, sim)
    template: Template = Template.objects.get(vmid=vm.vmid)
    return template


def look_later(cluster: Cluster, sim: SimulatorThread) -> None:
    """When the list counts for all that was done."""
    Template.objects.update(settled_at=None)
    VirtualMachine.objects.update(settled_at=None)
    fresh(sim)
    look(cluster)


def vanish(cluster: Cluster, sim: SimulatorThread, *vmids: int) -> dict[int, Any]:
    gone = sim.change(lambda live: {vmid: live.world.guests.pop(vmid) for vmid in vmids})
    look_later(cluster, sim)
    assert not cluster.templates.living().filter(vmid__in=vmids).exists()
    return dict(gone)


def come_back(cluster: Cluster, sim: SimulatorThread, gone: dict[int, Any]) -> None:
    sim.change(lambda live: live.world.guests.update(gone))
    look_later(cluster, sim)


def test_one_that_comes_back_is_still_its_projects(private, cluster, sim, member, stranger):
    come_back(cluster, sim, vanish(cluster, sim, private.vmid))
    assert stranger.get(f"{API}/{private.vmid}").status_code == 404
    assert member.get(f"{API}/{private.vmid}").json()["project"] == "default"
    assert Template.objects.get(vmid=private.vmid).uuid == private.uuid


def test_another_one_under_its_number_is_not(private, cluster, sim, stranger):
    gone = vanish(cluster, sim, private.vmid)
    gone[private.vmid].config.update(smbios1=f"uuid={OTHER}", name="theirs")
    come_back(cluster, sim, gone)
    found = Template.objects.living().get(vmid=private.vmid)
    assert (found.project, found.uuid == private.uuid) == (None, False)
    assert stranger.get(f"{API}/{private.vmid}").json()["name"] == "theirs"


def test_one_that_was_deleted_does_not_come_back(private, cluster, sim, by):
    guest = sim.guest(private.vmid)
    finish(template_actions.delete_template(template=private, by=by))
    Template.objects.filter(pk=private.pk).update(missing_since="2026-01-01T00:00:00Z")
    sim.change(lambda live: live.world.guests.update({private.vmid: guest}))
    Template.objects.update(settled_at="2026-01-01T00:00:15Z")
    fresh(sim)
    look(cluster)
    assert Template.objects.living().get(vmid=private.vmid).uuid != private.uuid


# --- VMs that become templates ---


def convert_outside(cluster: Cluster, sim: SimulatorThread, vm: VirtualMachine) -> Template:
    sim.cause(accidents.set_option, vmid=vm.vmid, key="template", value=1)
    look_later(cluster, sim)
    found: Template = Template.objects.living().get(vmid=vm.vmid)
    return found


def test_a_projects_vm_that_was_converted_in_proxmox_is_its_projects_still(
    cluster, sim, by, member, stranger
):
    vm = a_vm(sim, by, running=False)
    found = convert_outside(cluster, sim, vm)
    assert stranger.get(f"{API}/{vm.vmid}").status_code == 404
    body = member.get(f"{API}/{vm.uuid}").json()
    assert (body["project"], body["published"]) == ("default", False)
    assert found.smbios_uuid == VirtualMachine.objects.get(pk=vm.pk).smbios_uuid
    vm.refresh_from_db()
    assert vm.deleted_at is not None
    assert Event.objects.get(kind="vm.converted_outside").subject == vm.uuid
    assert not Event.objects.filter(kind="vm.missing").exists()
    assert member.delete(f"{API}/{vm.vmid}").status_code == 202


def test_a_vm_that_nobody_made_through_izvor_becomes_a_template_for_all(cluster, sim, stranger):
    convert_outside(cluster, sim, vm_of(cluster, 102))
    assert stranger.get(f"{API}/102").json()["published"] is True


def test_a_template_in_the_place_of_a_vm_that_is_gone_is_not_its_projects(
    cluster, sim, by, stranger
):
    vm = a_vm(sim, by, running=False)
    sim.cause(accidents.set_option, vmid=vm.vmid, key="smbios1", value=f"uuid={OTHER}")
    found = convert_outside(cluster, sim, vm)
    assert (found.project, found.uuid == vm.uuid) == (None, False)
    assert stranger.get(f"{API}/{vm.vmid}").status_code == 200
    vm.refresh_from_db()
    assert vm.deleted_at is not None


def test_a_template_that_a_task_is_making_is_left_to_it(cluster, sim, by, work):
    vm = a_vm(sim, by, running=False)
    converting = actions.convert_vm(vm=vm, by=by)
    sim.cause(accidents.set_option, vmid=vm.vmid, key="template", value=1)
    look_later(cluster, sim)
    assert not Template.objects.filter(vmid=vm.vmid).exists()
    assert work(converting).state == "succeeded"
    assert Template.objects.living().get(vmid=vm.vmid).uuid == vm.uuid


def test_what_a_failed_creation_has_left_is_offered_to_nobody(cluster, sim, operator, work):
    vm, creating = actions.create_vm(asked=a_new_vm(keep=True), by=operator)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no space left on device")
    assert work(creating).state == "failed"
    sim.cause(accidents.set_option, vmid=vm.vmid, key="template", value=1)
    look_later(cluster, sim)
    assert not Template.objects.filter(vmid=vm.vmid).exists()
    vm.refresh_from_db()
    assert work(actions.delete_vm(vm=vm, by=operator)).state == "succeeded"
    assert sim.guest(vm.vmid) is None


# --- copies ---


def copy_to(node: str, by: Actor) -> Template:
    original = Template.objects.get(name="rocky-9", copy_of=None)
    copying = template_actions.copy_template(template=original, node=node, storage="", by=by)
    copy: Template = Template.objects.subject_of(finish(copying)).get()
    return copy


def test_a_family_that_comes_back_is_as_it_was(api, cluster, sim, operator):
    copy = copy_to("pve3", operator)
    come_back(cluster, sim, vanish(cluster, sim, 9002, copy.vmid))
    body = api.get(f"{API}/rocky-9").json()
    assert (body["id"], body["copies"][0]["id"]) == ("9002", str(copy.vmid))


def test_an_original_whose_place_was_taken_is_a_copy(api, cluster, sim, operator):
    heir = copy_to("pve3", operator)
    Template.objects.filter(vmid=9002).update(is_published=False)
    come_back(cluster, sim, vanish(cluster, sim, 9002))
    body = api.get(f"{API}/rocky-9").json()
    assert (body["id"], body["copies"][0]["id"]) == (str(heir.vmid), "9002")
    assert body["published"] is False


def test_a_copy_that_comes_back_alone_takes_its_originals_place(api, cluster, sim, operator):
    copy = copy_to("pve3", operator)
    Template.objects.filter(vmid=9002).update(is_published=False)
    gone = vanish(cluster, sim, 9002, copy.vmid)
    come_back(cluster, sim, {copy.vmid: gone[copy.vmid]})
    body = api.get(f"{API}/rocky-9").json()
    assert (body["id"], body["copy_of"], body["published"]) == (str(copy.vmid), None, False)
    come_back(cluster, sim, gone)
    assert api.get(f"{API}/rocky-9").json()["copies"][0]["id"] == "9002"
