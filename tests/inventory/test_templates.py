"""Templates that are not in the list for a while: they come back as what they were, to whom they
belonged, or as somebody else's."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.actors import MEMBER, Actor
from accounts.models import Project
from clusters.models import Cluster
from pve_simulator.testing import SimulatorThread
from templates_app.models import Template
from tests.api.shapes import Caller
from tests.conftest import client_with
from tests.inventory.looking import fresh, look
from tests.vms.cast import a_vm, finish
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
