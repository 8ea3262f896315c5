"""A person's own user-data: through an ISO to cloud-init, with clones, changes and the VM's end."""

from __future__ import annotations

import json

import pytest

from clusters.connect import connect
from operations.models import Operation
from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from tests.api.shapes import Caller, fields_of, problem_of
from tests.conftest import SSH_KEY, run_until
from tests.vms.iso import read_iso
from vms.models import UserData, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1/vms"
SCRIPT = "#cloud-config\nruncmd:\n  - echo hello-from-user-data\n"
CLOUD_INIT = {
    "user": "ana",
    "password": "swordfish-7",
    "ssh_keys": [SSH_KEY],
    "ip_config": "ip=192.0.2.10/24,gw=192.0.2.1",
    "dns": ["192.0.2.53"],
    "user_data": SCRIPT,
}
NEW = {"name": "web", "template": "ubuntu-22.04", "linked": True, "cores": 1, "memory": 512}


@pytest.fixture
def calls(api) -> Caller:
    return Caller(api)


@pytest.fixture
def vm(calls, cluster, work) -> VirtualMachine:
    body = calls.post(API, {**NEW, "cloud_init": CLOUD_INIT}).json()
    ended = work(body["task_id"])
    assert ended.state == "succeeded", ended.error
    return VirtualMachine.objects.get(uuid=body["vm"]["uuid"])


def isos(sim) -> dict[str, bytes]:
    """The ISOs of ours that lie on any storage, by volume ID."""

    def read(s: Simulator) -> dict[str, bytes]:
        return {
            volume.volid: volume.payload or b""
            for volumes in s.world.volumes.values()
            for volume in volumes.values()
            if ":iso/izvor-" in volume.volid
        }

    found: dict[str, bytes] = sim.change(read)
    return found


def seen_by(sim, vmid: int) -> dict[str, str]:
    """What cloud-init in this guest would read: the files of its one seed."""
    config = sim.guest(vmid).config
    drives = [value for value in config.values() if "media=cdrom" in str(value)]
    seeds = [value for value in drives if "izvor-" in value or "cloudinit" in value]
    assert len(seeds) == 1, drives
    return read_iso(isos(sim)[seeds[0].split(",")[0]])


def test_nobody_is_shown_a_vms_user_data_or_given_it_as_an_iso(vm, sim, calls):
    (volume,) = isos(sim)
    for path in ("isos", "images"):
        body = calls.get(f"/api/v1/{path}").json()
        assert volume not in [image["id"] for image in body[path]]
    for name in (volume, volume.rpartition("/")[2]):
        answer = calls.post(API, {"name": "thief", "os_template": name, "cores": 1, "memory": 512})
        assert answer.status_code == 400, answer.json()
        assert answer.json()["code"] == "image_not_found"


def test_cloud_init_reads_the_users_text_and_all_other_fields(vm, sim):
    files = seen_by(sim, vm.vmid)
    assert files["user-data"] == SCRIPT
    vendor = json.loads(files["vendor-data"].removeprefix("#cloud-config\n"))
    assert (vendor["user"], vendor["ssh_authorized_keys"]) == ("ana", [SSH_KEY])
    assert vendor["password"].startswith("$6$")
    card, resolver = json.loads(files["network-config"])["config"]
    assert card["mac_address"] == vm.mac_address.lower()
    assert card["subnets"] == [
        {"type": "static", "address": "192.0.2.10/24", "gateway": "192.0.2.1"}
    ]
    assert resolver["address"] == ["192.0.2.53"]
    assert json.loads(files["meta-data"])["local-hostname"] == "web"


def test_it_is_shown_as_set_and_nothing_of_it_is_kept_in_the_clear(vm, calls, sim):
    shown = calls.get(f"{API}/{vm.vmid}").json()["cloud_init"]
    assert shown["user_data_set"] is True
    assert shown["user"] == "ana"
    assert "user_data" not in shown
    assert "hello-from-user-data" not in UserData.objects.get(vm=vm).sealed
    assert "swordfish-7" not in json.dumps([str(files) for files in isos(sim).values()])
    assert Operation.objects.get().sealed_params == ""


def test_a_clone_gets_an_iso_of_its_own(vm, calls, sim, work):
    body = calls.post(f"{API}/{vm.vmid}/actions", {"action": "clone", "clone_name": "copy"}).json()
    assert work(body["task_id"]).state == "succeeded"
    own, copy = seen_by(sim, vm.vmid), seen_by(sim, int(body["vmid"]))
    assert copy["user-data"] == SCRIPT
    assert json.loads(copy["meta-data"])["local-hostname"] == "copy"
    assert copy["meta-data"] != own["meta-data"]
    assert len(isos(sim)) == 2


def test_a_change_brings_a_new_iso_and_keeps_what_it_did_not_name(vm, calls, sim, work):
    answer = calls.ask("PATCH", f"{API}/{vm.vmid}", {"cloud_init": {"user": "ben"}})
    assert work(answer.json()["task_id"]).state == "succeeded"
    files = seen_by(sim, vm.vmid)
    vendor = json.loads(files["vendor-data"].removeprefix("#cloud-config\n"))
    assert vendor["user"] == "ben"
    assert vendor["password"].startswith("$6$")
    assert files["user-data"] == SCRIPT


def test_a_vm_with_a_plain_cloud_init_drive_can_get_user_data_later(calls, cluster, sim, work):
    body = calls.post(API, {**NEW, "cloud_init": {"user": "ana"}}).json()
    work(body["task_id"])
    answer = calls.ask("PATCH", f"{API}/{body['vmid']}", {"cloud_init": {"user_data": SCRIPT}})
    assert work(answer.json()["task_id"]).state == "succeeded"
    assert seen_by(sim, int(body["vmid"]))["user-data"] == SCRIPT


def test_with_the_vm_its_iso_goes(vm, calls, sim, work):
    assert len(isos(sim)) == 1
    body = calls.delete(f"{API}/{vm.vmid}").json()
    assert work(body["task_id"]).state == "succeeded"
    assert isos(sim) == {}
    assert not UserData.objects.exists()


def test_a_creation_that_fails_after_the_upload_leaves_none(calls, cluster, sim, work):
    sim.cause(accidents.fail_next_task, kind="qmstart", text="no room in the inn")
    body = calls.post(API, {**NEW, "cloud_init": CLOUD_INIT}).json()
    ended = work(body["task_id"])
    assert (ended.state, "no room in the inn" in ended.error) == ("failed", True)
    assert isos(sim) == {}
    assert sim.guest(int(body["vmid"])) is None


def test_a_rollback_to_before_the_change_attaches_the_present_iso(vm, calls, sim, work):
    taken = calls.post(f"{API}/{vm.vmid}/snapshots", {"name": "before"}).json()
    work(taken["task_id"])
    body = calls.ask("PATCH", f"{API}/{vm.vmid}", {"cloud_init": {"user": "ben"}}).json()
    work(body["task_id"])
    back = calls.post(f"{API}/{vm.vmid}/snapshots/before/rollback", {"start": True}).json()
    assert work(back["task_id"]).state == "succeeded"
    vendor = seen_by(sim, vm.vmid)["vendor-data"]
    assert '"ben"' in vendor


def test_a_rollback_to_before_there_was_any_leaves_one_seed(calls, cluster, sim, work):
    body = calls.post(API, {**NEW, "cloud_init": {"user": "ana"}}).json()
    work(body["task_id"])
    path = f"{API}/{body['vmid']}"
    work(calls.post(f"{path}/snapshots", {"name": "before"}).json()["task_id"])
    work(calls.ask("PATCH", path, {"cloud_init": {"user_data": SCRIPT}}).json()["task_id"])
    back = calls.post(f"{path}/snapshots/before/rollback", {"start": True}).json()
    assert work(back["task_id"]).state == "succeeded"
    assert seen_by(sim, int(body["vmid"]))["user-data"] == SCRIPT


def test_a_template_made_of_it_has_proxmox_own_drive_again(vm, calls, sim, work):
    work(
        calls.post(f"{API}/{vm.vmid}/actions", {"action": "stop", "force": True}).json()["task_id"]
    )
    body = calls.post(f"{API}/{vm.vmid}/actions", {"action": "template"}).json()
    ended = work(body["task_id"])
    assert ended.state == "succeeded", ended.error
    config = sim.guest(vm.vmid).config
    assert any("cloudinit" in str(value) for value in config.values())
    assert isos(sim) == {}


def test_a_vm_that_does_not_become_a_template_keeps_its_user_data(calls, cluster, sim, work):
    body = calls.post(API, {**NEW, "cloud_init": CLOUD_INIT, "start_on_create": False}).json()
    work(body["task_id"])
    vmid = int(body["vmid"])
    sim.cause(accidents.fail_next_task, kind="qmtemplate", text="the storage is gone")
    task = calls.post(f"{API}/{vmid}/actions", {"action": "template"}).json()["task_id"]
    ended = work(task)
    assert (ended.state, ended.error) == ("failed", "the storage is gone")
    assert seen_by(sim, vmid)["user-data"] == SCRIPT
    again = calls.post(f"/api/v1/tasks/{task}/retry", {}).json()["task_id"]
    assert work(again).state == "succeeded"
    assert isos(sim) == {}
    assert "izvor-" not in str(sim.guest(vmid).config)


def test_a_vm_started_before_its_conversion_keeps_its_user_data(calls, cluster, sim, work):
    body = calls.post(API, {**NEW, "cloud_init": CLOUD_INIT, "start_on_create": False}).json()
    work(body["task_id"])
    vm = VirtualMachine.objects.get(uuid=body["vm"]["uuid"])
    task = calls.post(f"{API}/{vm.vmid}/actions", {"action": "template"}).json()["task_id"]
    connect(cluster).start(vm.node, vm.vmid, timeout_s=5)
    run_until(lambda: sim.guest(vm.vmid).is_running, bool)
    ended = work(task)
    assert (ended.state, ended.error_code) == ("failed", "wrong_state")
    assert seen_by(sim, vm.vmid)["user-data"] == SCRIPT


def test_a_vm_whose_iso_is_local_says_why_it_cannot_move(vm, calls):
    answer = calls.post(
        f"{API}/{vm.vmid}/actions",
        {"action": "migrate", "node": next(n for n in ("pve", "pve2") if n != vm.node)},
    )
    assert "IZVOR_USERDATA_STORAGE" in problem_of(answer, 409, "local_iso")["detail"]


def test_without_a_storage_for_it_nothing_is_made(calls, cluster, settings):
    settings.IZVOR_USERDATA_STORAGE = "nowhere"
    answer = calls.post(API, {**NEW, "cloud_init": CLOUD_INIT})
    assert "nowhere" in problem_of(answer, 409, "no_iso_storage")["detail"]
    assert not Operation.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        "hello",
        "#cloud-config\nruncmd: [",
        "#cloud-config\n- a list\n",
        "#cloud-config\n" + "[" * 20_000,
        "#!" + "x" * 65536,
        "",
    ],
)
def test_what_cloud_init_would_ignore_is_refused(wrong, calls, cluster):
    answer = calls.post(API, {**NEW, "cloud_init": {"user_data": wrong}})
    assert fields_of(problem_of(answer, 400)) == ["cloud_init.user_data"]


@pytest.mark.parametrize("odd", ["2001-13-45", "!!int x", "0x_", "!!bool x"])
def test_what_its_values_mean_is_left_to_cloud_init(odd, calls, cluster):
    text = f"#cloud-config\na: {odd}\n"
    answer = calls.post(f"{API}?dry_run=true", {**NEW, "cloud_init": {"user_data": text}})
    assert answer.status_code == 200, answer.json()
