"""`DELETE /templates/{id}`: gone with its disks, unless something stands on them."""

from __future__ import annotations

from typing import Any

import pytest

from clusters.connect import connect
from inventory import cycle, guests
from operations.models import Claim
from pve_simulator import accidents
from templates_app.models import Template
from tests.operations.hostile import is_untouched, put_foreign
from tests.vms.cast import a_new_vm, a_vm, finish
from vms import actions, template_actions

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1/templates"


def refused(answer: Any, code: str) -> str:
    assert (answer.status_code, answer.json()["code"]) == (409, code), answer.json()
    return str(answer.json()["detail"])


def test_it_is_gone_with_its_disks(api, cluster, sim, work):
    answer = api.delete(f"{API}/debian-12")
    assert answer.status_code == 202, answer.json()
    assert answer.json()["id"] == "9001"
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert sim.guest(9001) is None
    assert not [v for v in sim.world.volumes[("ceph", "")] if "9001" in v]
    assert api.get(f"{API}/debian-12").status_code == 404
    assert api.post("/api/v1/vms", {"name": "web", "template": "debian-12"}).status_code == 400


def test_a_list_from_before_does_not_bring_it_back(api, cluster, sim, work):
    began, listed = cycle.database_now(), connect(cluster).resources()
    work(api.delete(f"{API}/debian-12").json()["task_id"])
    guests.sync_guests(cluster, listed, began)
    assert not Template.objects.living().filter(vmid=9001).exists()


def test_not_while_something_is_cloned_from_it(api, cluster, sim, work, operator):
    _, cloning = actions.create_vm(asked=a_new_vm(), by=operator)
    assert str(cloning.uuid) in refused(api.delete(f"{API}/ubuntu-22.04"), "claimed")
    assert work(cloning).state == "succeeded"


def test_linked_clones_on_it_are_named(api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False, linked=True)
    assert f"VM {vm.vmid} web" in refused(api.delete(f"{API}/ubuntu-22.04"), "has_linked_clones")
    finish(actions.delete_vm(vm=vm, by=operator))
    assert api.delete(f"{API}/ubuntu-22.04").status_code == 202


def test_a_linked_clone_made_meanwhile_keeps_it(api, cluster, sim, work, operator):
    """Proxmox refuses in the task, and the template stays as it was."""
    template = Template.objects.get(vmid=9000)
    operation = template_actions.delete_template(template=template, by=operator)

    def link(live: Any) -> None:
        known = live.world.volumes[("ceph", "")]
        base = known["ceph:base-9000-disk-0"]
        volid = f"{base.volid}/vm-999-disk-0"
        known[volid] = type(base)(volid, "images", "raw", base.size, 0, 0, 999)

    sim.change(link)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "has_linked_clones")
    assert sim.guest(9000).config["template"] == 1
    assert api.get(f"{API}/ubuntu-22.04").status_code == 200


def test_one_that_is_protected_in_proxmox_stays(api, cluster, sim):
    sim.cause(accidents.set_option, vmid=9001, key="protection", value=1)
    assert "unset" in refused(api.delete(f"{API}/debian-12"), "protected")
    assert sim.calls_to("DELETE", "/qemu/") == []


def test_another_under_its_number_is_never_touched(api, cluster, sim, work, operator):
    template = Template.objects.get(vmid=9001)
    operation = template_actions.delete_template(template=template, by=operator)
    theirs = put_foreign(sim, 9001, "pve", template=1)
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "template_replaced")
    assert is_untouched(sim, 9001, theirs)
    refused(api.delete(f"{API}/9001"), "template_replaced")


def test_one_with_copies_goes_last(api, cluster, sim, work):
    copying = api.post(f"{API}/rocky-9/copies", {"node": "pve3"}).json()
    work(copying["task_id"])
    assert copying["copy"]["id"] in refused(api.delete(f"{API}/rocky-9"), "template_has_copies")
    answer = api.delete(f"{API}/{copying['copy']['id']}")
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert api.get(f"{API}/rocky-9").json()["nodes"] == ["pve2"]
    assert api.delete(f"{API}/rocky-9").status_code == 202


def test_no_vm_is_made_of_one_that_is_being_deleted(api, cluster, sim, work):
    body = api.delete(f"{API}/debian-12").json()
    answer = api.post("/api/v1/vms", {"name": "web", "template": "debian-12"})
    assert body["task_id"] in refused(answer, "claimed")
    assert work(body["task_id"]).state == "succeeded"
    assert not Claim.objects.exists()


def test_a_template_that_was_never_read_is_not_deleted_blindly(api, cluster, sim):
    Template.objects.filter(vmid=9001).update(smbios_uuid=None)
    sim.add_fault("status", path="/qemu/9001/config", status=596, text="broken pipe", count=99)
    answer = api.delete(f"{API}/9001")
    assert (answer.status_code, answer.json()["code"]) == (503, "template_unidentified")
    sim.clear_faults()
    assert api.delete(f"{API}/9001").status_code == 202


def test_inventory_notices_another_template_under_the_number(api, cluster, sim):
    was = api.get(f"{API}/debian-12").json()["uuid"]
    other = "uuid=11111111-2222-4333-8444-555555555555"
    sim.cause(accidents.set_option, vmid=9001, key="smbios1", value=other)
    Template.objects.filter(vmid=9001).update(details_at=None)
    cycle.look_at(cluster)
    assert api.get(f"{API}/debian-12").json()["uuid"] != was
