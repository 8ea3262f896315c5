"""What a person asks for reaches the VM that was meant, and nobody else's."""

from __future__ import annotations

import pytest

from inventory import cycle
from operations.models import Operation
from pve_simulator import accidents
from tests.api.shapes import problem_of
from tests.vms.cast import a_new_vm, a_vm
from vms import actions
from vms.asked import CloneOf
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

STRANGER = "uuid=11111111-2222-4333-8444-555555555555"


@pytest.fixture
def found(cluster):
    """A stopped VM that inventory has found and never read."""
    vm = VirtualMachine.objects.get(vmid=102)
    VirtualMachine.objects.filter(pk=vm.pk).update(smbios_uuid=None, details_at=None)
    vm.refresh_from_db()
    return vm


def test_a_vm_that_was_never_read_is_identified_when_its_deletion_is_accepted(
    api, found, sim, work
):
    answer = api.delete(f"/api/v1/vms/{found.vmid}")
    assert answer.status_code == 202
    found.refresh_from_db()
    assert str(found.smbios_uuid) in sim.guest(found.vmid).config["smbios1"]
    sim.change(lambda s: s.world.guests[found.vmid].config.update(smbios1=STRANGER))
    assert work(answer.json()["task_id"]).error_code == "vm_replaced"
    assert sim.guest(found.vmid) is not None


def test_the_usage_of_who_has_its_number_now_is_not_shown(api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    path = f"/api/v1/vms/{vm.vmid}/metrics"
    assert api.get(path).status_code == 200
    sim.change(lambda s: s.world.guests[vm.vmid].config.update(smbios1=STRANGER))
    problem_of(api.get(path), 409, "vm_replaced")
    sim.change(lambda s: s.world.guests.pop(vm.vmid))
    cycle.look_at(cluster)
    problem_of(api.get(path), 404, "vm_gone")


def test_a_vm_that_is_only_begun_has_no_metrics_yet(api, cluster, operator):
    vm, _ = actions.create_vm(asked=a_new_vm(), by=operator)
    problem_of(api.get(f"/api/v1/vms/{vm.vmid}/metrics"), 409, "wrong_state")


@pytest.mark.parametrize("verb", ["delete", "start"])
def test_it_is_left_alone_while_it_cannot_be_read(api, found, sim, verb):
    sim.add_fault("status", method="GET", path="/config$", status=595, count=10)
    path = f"/api/v1/vms/{found.vmid}"
    answer = api.delete(path) if verb == "delete" else api.post(f"{path}/actions", {"action": verb})
    assert (answer.status_code, answer.json()["code"]) == (503, "vm_unidentified")
    found.refresh_from_db()
    assert (found.doing, found.task) == ("", None)


def test_a_vm_that_is_a_template_by_now_is_not_deleted(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    deleting = actions.delete_vm(vm=vm, by=operator)
    sim.cause(accidents.set_option, vmid=vm.vmid, key="template", value=1)
    ended = work(deleting)
    assert (ended.state, ended.error_code) == ("failed", "is_template")
    answer = api.delete(f"/api/v1/vms/{vm.vmid}")
    assert (answer.status_code, answer.json()["code"]) == (409, "is_template")
    assert f"DELETE /api/v1/templates/{vm.vmid}" in answer.json()["detail"]
    assert sim.guest(vm.vmid) is not None


def test_a_failed_creation_whose_number_is_somebody_elses_now_can_be_deleted(
    api, cluster, sim, operator, work
):
    vm, operation = actions.create_vm(asked=a_new_vm(keep=True), by=operator)
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no space left on device")
    assert work(operation).state == "failed"
    sim.change(lambda s: s.world.guests[vm.vmid].config.update(smbios1=STRANGER))
    answer = api.delete(f"/api/v1/vms/{vm.vmid}")
    assert answer.status_code == 202, answer.json()
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert sim.guest(vm.vmid) is not None, "the stranger stays"
    assert api.get(f"/api/v1/vms/{vm.uuid}").status_code == 404


def test_a_clone_that_is_under_way_is_canceled_by_its_deletion(api, cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    copy, clone = actions.clone_vm(vm=vm, asked=CloneOf(name="copy"), by=operator)
    answer = api.delete(f"/api/v1/vms/{copy.uuid}")
    assert answer.status_code == 202, answer.json()
    assert work(answer.json()["task_id"]).state == "succeeded"
    clone.refresh_from_db()
    assert clone.state == "canceled"
    assert sim.guest(copy.vmid) is None
    assert sim.guest(vm.vmid) is not None


# --- what is copied ---


def put_a_stranger(sim, vmid, **more):
    """Somebody has removed what stood under this number, and made something else there."""
    told = {"name": "theirs", "description": "a secret", **more}
    sim.change(lambda s: s.world.guests[vmid].config.update(smbios1=STRANGER, **told))


def test_a_stranger_under_the_sources_number_is_not_cloned(api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    put_a_stranger(sim, vm.vmid)
    sim.forget_calls()
    answer = api.post(f"/api/v1/vms/{vm.vmid}/actions", {"action": "clone", "clone_name": "copy"})
    assert (answer.status_code, answer.json()["code"]) == (409, "vm_replaced")
    assert "a secret" not in answer.content.decode()
    assert sim.calls_to("POST", "/clone$") == []


@pytest.mark.parametrize("kind", ["clone_vm", "create_vm"])
def test_a_stranger_that_comes_before_the_clone_is_not_cloned(kind, cluster, sim, operator, work):
    if kind == "clone_vm":
        source = a_vm(sim, operator, running=False)
        vm, operation = actions.clone_vm(vm=source, asked=CloneOf(name="copy"), by=operator)
        put_a_stranger(sim, source.vmid)
    else:
        vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
        put_a_stranger(sim, 9000)
    sim.forget_calls()
    ended = work(operation)
    assert (ended.state, ended.error_code) == ("failed", "template_replaced")
    assert sim.calls_to("POST", "/clone$") == []
    assert sim.guest(vm.vmid) is None


def test_older_codes_operations_go_on_though_they_do_not_say_who_the_source_is(
    cluster, sim, operator, work
):
    _, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    params = {**operation.params}
    del params["template_smbios"]
    params["sources"] = [
        {name: value for name, value in source.items() if name != "smbios_uuid"}
        for source in params["sources"]
    ]
    Operation.objects.filter(pk=operation.pk).update(params=params)
    assert work(operation).state == "succeeded"
