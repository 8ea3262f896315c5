"""Changing VMs through the API: PATCH, snapshots, clones and the other verbs."""

from __future__ import annotations

import pytest

from accounts.actors import MEMBER
from accounts.models import Project, Quota
from events.models import Event
from inventory import cycle
from operations.models import Operation
from pve_simulator import accidents
from templates_app.models import Template
from tests.api.shapes import fields_of, problem_of
from tests.conftest import client_with
from tests.vms.cast import a_vm, another_node
from vms import actions
from vms.asked import VmChanges
from vms.models import VirtualMachine
from vms.quota import usage_of

pytestmark = pytest.mark.django_db(transaction=True)


def do(api, work, vm, **body):
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", body)
    assert answer.status_code == 202, answer.json()
    ended = work(answer.json()["task_id"])
    assert ended.state == "succeeded", ended.error
    return answer.json()


def status(api, vm):
    return api.get(f"/api/v1/vms/{vm.vmid}").json()["status"]


# --- PATCH ---


def test_cloud_init_for_a_vm_without_a_drive_is_refused(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    config = sim.guest(vm.vmid).config
    (drive,) = (key for key, value in config.items() if "cloudinit" in str(value))
    sim.change(lambda s: s.world.guests[vm.vmid].config.pop(drive))
    answer = api.patch(f"/api/v1/vms/{vm.vmid}", {"cloud_init": {"user": "ana"}})
    assert fields_of(problem_of(answer, 400)) == ["cloud_init"]
    with_text = {"cloud_init": {"user": "ana", "user_data": "#!/bin/sh\n"}}
    for asked in (with_text, {"cloud_init": {"user": "ben"}}):
        answer = api.patch(f"/api/v1/vms/{vm.vmid}", asked)
        assert work(answer.json()["task_id"]).state == "succeeded"


def test_a_stopped_vm_takes_everything_at_once(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    answer = api.patch(
        f"/api/v1/vms/{vm.vmid}",
        {
            "name": "renamed",
            "description": "new words",
            "tags": ["Web", "blue"],
            "cores": 2,
            "memory": 1024,
            "disk_size": 8,
            "network": "vmbr1",
            "metadata": {"owner": "ana"},
            "cloud_init": {"user": "ops", "ip_config": "ip=192.0.2.9/24", "gateway": "192.0.2.1"},
        },
    )
    assert answer.status_code == 202, answer.json()
    ended = work(answer.json()["task_id"])
    assert ended.state == "succeeded", ended.error
    shown = api.get(f"/api/v1/vms/{vm.vmid}").json()
    assert (shown["name"], shown["description"]) == ("renamed", "new words")
    assert (shown["tags"], shown["metadata"]) == (["blue", "web"], {"owner": "ana"})
    assert (shown["cores"], shown["memory"], shown["disk_size"]) == (2, 1024, 8)
    assert (shown["network"], shown["mac_address"]) == ("vmbr1", vm.mac_address)
    assert shown["cloud_init"]["ip_config"] == "ip=192.0.2.9/24,gw=192.0.2.1"
    assert ended.notes["pending"] == []
    vm.refresh_from_db()
    assert vm.is_ours, "the mark survives a new description"


def test_what_a_running_vm_cannot_take_is_said_to_be_pending(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    answer = api.patch(f"/api/v1/vms/{vm.vmid}", {"memory": 1024})
    assert work(answer.json()["task_id"]).notes["pending"] == ["memory"]
    assert sim.guest(vm.vmid).pending["memory"] == "1024"
    answer = api.patch(f"/api/v1/vms/{vm.vmid}", {"disk_size": 30})
    assert work(answer.json()["task_id"]).notes["pending"] == ["memory"]


def test_what_waits_for_the_next_start_is_no_change_from_outside(
    api, cluster, sim, operator, project, work
):
    vm = a_vm(sim, operator)
    path = f"/api/v1/vms/{vm.vmid}"

    def look() -> tuple[int, int]:
        sim.change(lambda s: s.cache.refresh())
        VirtualMachine.objects.filter(pk=vm.pk).update(settled_at=None)
        cycle.look_at(cluster)
        body = api.get(path).json()
        assert not Event.objects.filter(kind="vm.changed_outside").exists()
        assert usage_of(project).cores == body["cores"]
        return body["cores"], body["memory"]

    assert look() == (1, 512)
    answer = api.patch(path, {"cores": 3, "memory": 1024})
    assert work(answer.json()["task_id"]).state == "succeeded"
    # Proxmox lists what the VM runs with.
    assert look() == (3, 1024)
    do(api, work, vm, action="reboot")
    assert look() == (3, 1024)
    assert VirtualMachine.objects.get(pk=vm.pk).listed_cores == 3


def test_a_size_changes_cores_memory_and_disk(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    answer = api.patch(f"/api/v1/vms/{vm.vmid}", {"size": "small"})
    assert work(answer.json()["task_id"]).state == "succeeded"
    shown = api.get(f"/api/v1/vms/{vm.vmid}").json()
    assert (shown["size"], shown["cores"], shown["memory"], shown["disk_size"]) == (
        "small",
        1,
        1024,
        20,
    )
    answer = api.patch(f"/api/v1/vms/{vm.vmid}", {"cores": 2})
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert api.get(f"/api/v1/vms/{vm.vmid}").json()["size"] is None


def test_izvors_own_fields_change_at_once_and_ask_proxmox_nothing(api, cluster, sim, operator):
    vm = a_vm(sim, operator)
    sim.forget_calls()
    answer = api.put(f"/api/v1/vms/{vm.vmid}", {"protected": True, "metadata": {"a": "b"}})
    assert answer.status_code == 200
    assert (answer.json()["vm"]["protected"], answer.json()["pending"]) == (True, [])
    assert sim.calls == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"disk_size": 1}, "disk_size"),
        ({"cores": 129}, "cores"),
        # Proxmox would take these, and then not start it.
        ({"cores": 17}, "cores"),
        ({"memory": 524_288}, "memory"),
        ({"network": "vmbr77"}, "network"),
        ({"size": "no-such"}, "size"),
        ({"template": "debian-12"}, "template"),
        ({"name": "not a name"}, "name"),
        ({"tags": ["no blanks"]}, "tags[0]"),
    ],
)
def test_a_change_that_cannot_be_is_refused_by_name(api, cluster, sim, operator, body, field):
    vm = a_vm(sim, operator)
    sim.forget_calls()
    answer = api.patch(f"/api/v1/vms/{vm.vmid}", body)
    assert answer.status_code == 400, answer.json()
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert not sim.calls_to("PUT", ".")


# --- verbs ---


def test_suspend_and_resume(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    do(api, work, vm, action="suspend")
    assert status(api, vm) == "paused"
    do(api, work, vm, action="resume")
    assert status(api, vm) == "running"


def test_reset_is_pressed_once(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    do(api, work, vm, action="reset")
    assert len(sim.tasks("qmreset")) == 1
    assert status(api, vm) == "running"


def test_migrate_moves_a_running_vm_and_it_goes_on_running(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator)
    target = another_node(vm)
    do(api, work, vm, action="migrate", node=target)
    shown = api.get(f"/api/v1/vms/{vm.vmid}").json()
    assert (shown["node"], shown["status"]) == (target, "running")
    assert sim.guest(vm.vmid).node == target


@pytest.mark.parametrize(("node", "code"), [("nowhere", 400), ("", 400)])
def test_migrate_wants_a_node_that_exists(api, cluster, sim, operator, node, code):
    vm = a_vm(sim, operator)
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", {"action": "migrate", "node": node})
    assert answer.status_code == code
    assert answer.json()["errors"][0]["field"] == "node"


def test_migrate_to_where_it_is_is_a_conflict(api, cluster, sim, operator):
    vm = a_vm(sim, operator)
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", {"action": "migrate", "node": vm.node})
    assert (answer.status_code, answer.json()["code"]) == (409, "already_there")


def test_a_clone_is_a_vm_of_its_own(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False, description="mine")
    answer = do(api, work, vm, action="clone", clone_name="copy")
    copy = VirtualMachine.objects.get(vmid=int(answer["vmid"]))
    assert answer["vm"]["name"] == "copy"
    assert copy.uuid != vm.uuid
    assert copy.smbios_uuid not in {None, vm.smbios_uuid}
    assert copy.mac_address != vm.mac_address
    assert (copy.is_ours, copy.description, copy.power) == (True, "mine", "stopped")


def test_a_linked_clone_of_what_is_no_template_is_refused(api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    answer = api.post(
        f"/api/v1/vms/{vm.vmid}/actions", {"action": "clone", "clone_name": "x1", "linked": True}
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "clone_unsupported")


def test_a_converted_vm_is_a_template_and_no_vm_any_more(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False, name="golden")
    do(api, work, vm, action="template")
    assert api.get(f"/api/v1/vms/{vm.uuid}").status_code == 404
    assert Template.objects.get(vmid=vm.vmid).name == "golden"


def test_an_unknown_verb_names_the_known_ones(api, cluster, sim, operator):
    vm = a_vm(sim, operator)
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", {"action": "explode"})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "action"


def test_a_parameter_of_another_verb_is_refused(api, cluster, sim, operator):
    vm = a_vm(sim, operator)
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", {"action": "reset", "force": True})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "force")


def test_a_locked_vm_refuses_at_once(api, cluster, sim, operator):
    vm = a_vm(sim, operator)
    sim.cause(accidents.set_lock, vmid=vm.vmid, lock="backup")
    VirtualMachine.objects.filter(pk=vm.pk).update(lock="backup")
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", {"action": "reset"})
    assert (answer.status_code, answer.json()["code"]) == (409, "locked")


def test_a_clone_can_differ_in_all_that_a_new_vm_can(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    answer = do(
        api,
        work,
        vm,
        action="clone",
        clone_name="copy",
        size="medium",
        tags=["green"],
        metadata={"team": "a"},
        description="another",
        cloud_init={"user": "ben"},
        start_on_create=True,
    )
    copy = api.get(f"/api/v1/vms/{answer['vmid']}").json()
    assert copy["status"] == "running"
    assert (copy["cores"], copy["memory"], copy["disk_size"]) == (2, 2048, 40)
    assert (copy["tags"], copy["description"], copy["size"]) == (["green"], "another", "medium")
    assert copy["metadata"] == {"team": "a"}
    assert copy["cloud_init"]["user"] == "ben"
    assert sim.guest(int(answer["vmid"])).config["ciuser"] == "ben"


def test_an_operator_gives_a_found_vm_to_a_project_within_its_quota(api, cluster, project):
    found = "/api/v1/vms/102"
    assert api.get(found).json()["project"] is None
    answer = api.patch(found, {"project": "default"})
    assert (answer.status_code, answer.json()["vm"]["project"]) == (200, "default")
    assert Event.objects.filter(kind="vm.assigned").count() == 1
    Quota.objects.create(project=project, vms=1)
    answer = api.patch("/api/v1/vms/101", {"project": "default"})
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
    answer = api.patch(found, {"project": None})
    assert answer.json()["vm"]["project"] is None
    answer = api.patch(found, {"project": "nobody-knows"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "project")


def test_a_member_gives_no_vm_away(cluster, project, sim, operator):
    vm = a_vm(sim, operator, running=False)
    member = client_with(project, MEMBER)
    answer = member.patch(f"/api/v1/vms/{vm.vmid}", {"project": None})
    assert (answer.status_code, answer.json()["code"]) == (403, "operators_only")


def test_snapshots_are_kept_in_the_inventory(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    taken = api.post(f"/api/v1/vms/{vm.vmid}/snapshots", {"name": "first"}).json()
    work(taken["task_id"])
    sim.forget_calls()
    listed = api.get(f"/api/v1/vms/{vm.vmid}/snapshots").json()
    assert [snapshot["name"] for snapshot in listed["snapshots"]] == ["first"]
    assert sim.calls == []
    work(api.delete(f"/api/v1/vms/{vm.vmid}/snapshots/first").json()["task_id"])
    assert api.get(f"/api/v1/vms/{vm.vmid}/snapshots").json()["count"] == 0


def test_a_vm_given_away_grows_within_the_new_projects_quota(api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    Quota.objects.create(project=operator.project, cores=1)
    new = Project.objects.create(name="new")
    quota = Quota.objects.create(project=new, cores=2)
    path = f"/api/v1/vms/{vm.vmid}"
    answer = api.patch(path, {"project": "new", "cores": 3})
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
    vm.refresh_from_db()
    assert vm.project == operator.project
    Quota.objects.filter(pk=quota.pk).update(cores=3)
    answer = api.patch(path, {"project": "new", "cores": 3})
    assert answer.status_code == 202, answer.json()
    assert Operation.objects.get(uuid=answer.json()["task_id"]).project == new


def test_what_a_vm_has_grown_by_is_counted_once(cluster, sim, operator, project, work):
    vm = a_vm(sim, operator, running=False)
    work(actions.update_vm(vm=vm, changes=VmChanges(cores=3, disk_gib=9), by=operator))
    grown = Operation.objects.get(kind="update_vm")
    assert usage_of(project).cores == 3
    # As it is after the first step, while the disk is still to grow.
    Operation.objects.filter(pk=grown.pk).update(state="running", ended_at=None)
    assert usage_of(project).cores == 3


def test_snapshots_are_within_the_quota(api, cluster, sim, operator, project, work):
    vm = a_vm(sim, operator, running=False)
    Quota.objects.create(project=project, snapshots=1)
    path = f"/api/v1/vms/{vm.vmid}/snapshots"
    work(api.post(path, {"name": "first"}).json()["task_id"])
    answer = api.post(path, {"name": "second"})
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
    quota = api.get("/api/v1/quotas/default").json()
    assert quota["snapshots"] == {"used": 1, "limit": 1}
