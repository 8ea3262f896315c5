"""A template on one node's local storage, and VMs wanted elsewhere: copies and moves."""

from __future__ import annotations

from typing import Any

import pytest

from accounts.actors import MEMBER
from inventory import cycle
from operations.models import Claim
from pve_simulator import accidents
from templates_app.models import Template
from tests.conftest import client_with, run_until
from tests.operations.hostile import step_by_step
from vms.models import VirtualMachine
from vms.template_actions import copy_template

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1/templates"
ROCKY = {"name": "web", "template": "rocky-9", "cores": 1, "memory": 512, "disk_size": 11}


@pytest.fixture
def copy_to(api: Any, work: Any) -> Any:
    """A copy of rocky-9 (9002, local to pve2) on a node; its VMID."""

    def made(node: str) -> int:
        answer = api.post(f"{API}/rocky-9/copies", {"node": node})
        assert answer.status_code == 202, answer.json()
        operation = work(answer.json()["task_id"])
        assert operation.state == "succeeded", operation.error
        return int(answer.json()["copy"]["id"])

    return made


# --- copies ---


def test_a_copy_is_the_same_template_on_another_node(api, cluster, sim, copy_to):
    vmid = copy_to("pve3")
    guest = sim.guest(vmid)
    assert (guest.node, guest.config["template"], guest.config["name"]) == ("pve3", 1, "rocky-9")
    assert guest.config["scsi0"].startswith(f"local-lvm:base-{vmid}-")
    assert api.get(API).json()["count"] == 3, "it is not listed for itself"
    template = api.get(f"{API}/rocky-9").json()
    assert (template["id"], template["node"]) == ("9002", "pve2")
    assert template["nodes"] == ["pve2", "pve3"]
    assert template["copies"] == [{"id": str(vmid), "node": "pve3"}]
    copy = api.get(f"{API}/{vmid}").json()
    assert (copy["name"], copy["copy_of"]) == ("rocky-9", "9002")


def test_a_copy_is_made_once(api, cluster, sim, copy_to):
    answer = api.post(f"{API}/rocky-9/copies", {"node": "pve"})
    assert answer.status_code == 202
    again = api.post(f"{API}/rocky-9/copies", {"node": "pve"})
    assert (again.status_code, again.json()["code"]) == (409, "claimed")
    assert answer.json()["task_id"] in again.json()["detail"]
    vmid = copy_to("pve3")
    for node, which in (("pve3", str(vmid)), ("pve2", "9002")):
        again = api.post(f"{API}/9002/copies", {"node": node})
        assert (again.status_code, again.json()["code"]) == (409, "already_there")
        assert which in again.json()["detail"]
    again = api.post(f"{API}/ubuntu-22.04/copies", {"node": "pve3"})
    assert (again.status_code, again.json()["code"]) == (409, "already_there")


def test_a_copy_of_a_copy_is_one_of_the_original(api, cluster, sim, work, copy_to):
    first = copy_to("pve3")
    answer = api.post(f"{API}/{first}/copies", {"node": "pve"})
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert api.get(f"{API}/rocky-9").json()["nodes"] == ["pve", "pve2", "pve3"]


def test_a_copy_may_lie_on_another_storage_there(api, cluster, sim, work):
    answer = api.post(f"{API}/rocky-9/copies", {"node": "pve3", "storage": "ceph"})
    operation = work(answer.json()["task_id"])
    assert operation.state == "succeeded", operation.error
    assert sim.guest(int(answer.json()["copy"]["id"])).config["scsi0"].startswith("ceph:base-")
    assert api.get(f"{API}/rocky-9").json()["nodes"] == ["pve", "pve2", "pve3"]


def test_a_copy_that_fails_leaves_nothing(api, cluster, sim, work):
    sim.cause(accidents.fail_next_task, kind="qmigrate", text="migration aborted")
    before, volumes = set(sim.guests()), volumes_of(sim)
    answer = api.post(f"{API}/rocky-9/copies", {"node": "pve3"})
    assert work(answer.json()["task_id"]).state == "failed"
    assert (set(sim.guests()), volumes_of(sim)) == (before, volumes)
    assert not Claim.objects.exists()


def test_a_failed_copy_is_tried_again_unless_it_is_there(api, cluster, sim, work, copy_to):
    sim.cause(accidents.fail_next_task, kind="qmigrate", text="migration aborted")
    failed = api.post(f"{API}/rocky-9/copies", {"node": "pve3"}).json()["task_id"]
    assert work(failed).state == "failed"
    copy_to("pve3")
    answer = api.post(f"/api/v1/tasks/{failed}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "already_there")
    assert work(api.delete(f"{API}/{copy_of(api)}").json()["task_id"]).state == "succeeded"
    again = api.post(f"/api/v1/tasks/{failed}/retry").json()
    operation = work(again["task_id"])
    assert operation.state == "succeeded", operation.error
    assert api.get(f"{API}/rocky-9").json()["nodes"] == ["pve2", "pve3"]


def copy_of(api: Any) -> str:
    (copy,) = api.get(f"{API}/rocky-9").json()["copies"]
    return str(copy["id"])


def volumes_of(sim: Any) -> set[str]:
    return {volid for known in sim.world.volumes.values() for volid in known}


# --- VMs ---


def make(api: Any, work: Any, **asked: Any) -> Any:
    answer = api.post("/api/v1/vms", {**ROCKY, **asked})
    assert answer.status_code == 202, answer.json()
    operation = work(answer.json()["task_id"])
    assert operation.state == "succeeded", operation.error
    return operation


def test_where_a_copy_is_the_vm_is_cloned_from_it(api, cluster, sim, work, copy_to):
    vmid = copy_to("pve3")
    said = api.post("/api/v1/vms?dry_run=true", {**ROCKY, "node": "pve3"}).json()
    assert f"copy there ({vmid})" in said["reason"]
    assert [call["step"] for call in said["calls"]] == ["clone", "configure", "grow_disk", "start"]
    sim.forget_calls()
    operation = make(api, work, node="pve3", linked=True)
    assert [call.path for call in sim.calls_to("POST", "/clone$")] == [
        f"/nodes/pve3/qemu/{vmid}/clone"
    ]
    assert "copy there" in operation.params["placement"]["reason"]
    task = api.get(f"/api/v1/tasks/{operation.uuid}").json()
    assert task["placement"]["node"] == "pve3"


def test_where_none_is_the_vm_is_cloned_elsewhere_and_moved(api, cluster, sim, work):
    said = api.post("/api/v1/vms?dry_run=true", {**ROCKY, "node": "pve"}).json()
    assert "cloned on pve2, where the template is, and then moved" in said["reason"]
    assert [call["step"] for call in said["calls"]] == [
        "clone",
        "move",
        "configure",
        "grow_disk",
        "start",
    ]
    operation = make(api, work, node="pve")
    vm = VirtualMachine.objects.get(uuid=operation.subject)
    guest = sim.guest(vm.vmid)
    assert (vm.node, guest.node, guest.is_running) == ("pve", "pve", True)
    assert guest.config["scsi0"] == f"local-lvm:vm-{vm.vmid}-disk-0,size=11G"
    assert "move" in [step["name"] for step in operation.steps]
    assert "then moved" in operation.params["placement"]["reason"]
    left = sim.world.volumes[("local-lvm", "pve2")]
    assert not [volid for volid in left if str(vm.vmid) in volid]


@pytest.mark.parametrize("storage", ["ceph", "fast"])
def test_a_moved_vm_lies_on_the_storage_that_was_asked_for(storage, api, cluster, sim, work):
    """`fast` is on pve alone, so that only the move can bring it there."""

    def add(live: Any) -> None:
        local = live.world.storages["local-lvm"]
        live.world.storages["fast"] = type(local)(
            "fast", "lvmthin", ["images"], local.size, nodes=["pve"]
        )

    sim.change(add)
    sim.change(lambda live: live.cache.refresh())
    cycle.look_at(cluster)
    operation = make(api, work, node="pve", storage=storage)
    vm = VirtualMachine.objects.get(uuid=operation.subject)
    assert sim.guest(vm.vmid).node == "pve"
    for drive in ("scsi0", "ide2"):
        assert sim.guest(vm.vmid).config[drive].startswith(f"{storage}:"), drive


def test_without_a_node_it_goes_where_the_template_is(api, cluster, sim, copy_to):
    said = api.post("/api/v1/vms?dry_run=true", ROCKY).json()
    assert said["node"] == "pve2"
    copy_to("pve3")
    said = api.post("/api/v1/vms?dry_run=true", ROCKY).json()
    assert set(said["rejected_nodes"]) == {"pve"}
    assert "local storage of pve2 and pve3" in said["rejected_nodes"]["pve"]


def test_a_linked_clone_elsewhere_needs_a_copy_and_the_answer_says_how(api, cluster, sim, copy_to):
    wanted = {**ROCKY, "node": "pve3", "linked": True}
    answer = api.post("/api/v1/vms", wanted)
    assert (answer.status_code, answer.json()["code"]) == (409, "template_not_there")
    assert "POST /api/v1/templates/9002/copies" in answer.json()["detail"]
    copy_to("pve3")
    assert api.post("/api/v1/vms", wanted).status_code == 202


def test_the_name_stays_unambiguous_and_a_copy_stands_for_its_original(api, cluster, sim, copy_to):
    vmid = copy_to("pve3")
    said = api.post("/api/v1/vms?dry_run=true", {**ROCKY, "template": str(vmid)})
    assert said.status_code == 200
    assert said.json()["template"]["name"] == "rocky-9"
    assert api.get(f"{API}?name=rocky-9").json()["count"] == 1


def test_an_unpublished_template_is_not_to_be_had_by_its_copy(cluster, sim, project, copy_to):
    vmid = copy_to("pve3")
    member = client_with(project, MEMBER)
    assert member.get(f"{API}/{vmid}").status_code == 200
    Template.objects.filter(vmid=9002).update(is_published=False)
    assert member.get(f"{API}/{vmid}").status_code == 404
    asked = {**ROCKY, "template": str(vmid)}
    assert member.post("/api/v1/vms", asked).json()["code"] == "template_not_found"
    sim.change(lambda live: live.world.guests.pop(9002))
    cycle.look_at(cluster)
    assert not Template.objects.living().get(vmid=vmid).is_published


def test_a_vm_that_is_moved_while_it_is_made_can_be_canceled(api, cluster, sim, work):
    before = set(sim.guests())
    body = api.post("/api/v1/vms", {**ROCKY, "node": "pve"}).json()
    run_until(lambda: sim.tasks("qmigrate"), bool)
    assert api.post(f"/api/v1/tasks/{body['task_id']}/cancel").status_code == 202
    assert work(body["task_id"]).state == "canceled"
    assert set(sim.guests()) == before


# --- looking at the cluster ---


def test_inventory_keeps_copies_and_promotes_one_when_the_original_goes(api, cluster, sim, copy_to):
    first, second = sorted((copy_to("pve"), copy_to("pve3")))
    sim.change(lambda live: live.cache.refresh())
    cycle.look_at(cluster)
    assert api.get(f"{API}/rocky-9").json()["nodes"] == ["pve", "pve2", "pve3"]
    sim.change(lambda live: live.world.guests.pop(9002))
    sim.change(lambda live: live.cache.refresh())
    cycle.look_at(cluster)
    assert api.get(API).json()["count"] == 3
    template = api.get(f"{API}/rocky-9").json()
    assert (template["id"], template["copy_of"]) == (str(first), None)
    assert template["copies"][0]["id"] == str(second)


@pytest.mark.parametrize("has_an_heir", [False, True])
def test_a_copy_whose_original_goes_meanwhile_is_filed_under_who_is_left(
    has_an_heir, api, cluster, sim, operator, work, copy_to
):
    heir = copy_to("pve") if has_an_heir else None
    Template.objects.filter(vmid=9002).update(is_published=False)
    original = Template.objects.get(vmid=9002)
    copying = copy_template(template=original, node="pve3", storage="", by=operator)
    step_by_step(copying, "convert")
    sim.change(lambda live: (live.world.guests.pop(9002), live.cache.refresh()))
    cycle.look_at(cluster)
    done = work(copying)
    assert done.state == "succeeded", done.error
    copy = Template.objects.get(uuid=done.subject)
    assert api.get(f"{API}?name=rocky-9").json()["count"] == 1
    body = api.get(f"{API}/rocky-9").json()
    assert (body["id"], body["published"]) == (str(heir or copy.vmid), False)
    assert [each["id"] for each in body["copies"]] == ([str(copy.vmid)] if heir else [])


def test_a_new_template_is_not_unmade_by_a_list_from_before(cluster, sim, copy_to):
    """Proxmox's list lags: it still shows the VM that the template was a second ago."""
    vmid = copy_to("pve3")
    kept = Template.objects.get(vmid=vmid)

    def show_the_past(live: Any) -> None:
        live.world.guests[vmid].config.pop("template")
        live.cache.refresh()
        live.world.guests[vmid].config["template"] = 1

    sim.change(show_the_past)
    cycle.look_at(cluster)
    assert Template.objects.living().get(vmid=vmid).uuid == kept.uuid
    assert not VirtualMachine.objects.filter(vmid=vmid, deleted_at=None).exists()
