"""`POST /vms` with `os_template`: from an ISO with an empty disk, and from a cloud image."""

from __future__ import annotations

from typing import Any

import pytest

from clusters.models import Cluster
from inventory import cycle
from operations.models import Operation
from pve_simulator import accidents
from tests.conftest import SSH_KEY, run_until
from tests.operations.hostile import is_untouched, put_foreign, reread
from tests.vms.cast import ISO
from tests.vms.iso import read_iso
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1/vms"
NEW: dict[str, Any] = {"name": "installed", "os_template": ISO, "cores": 2, "memory": 1024}
IMAGE = "local:import/debian-13.qcow2"


def made(api: Any, work: Any, **asked: Any) -> tuple[dict[str, Any], Operation]:
    answer = api.post(API, {**NEW, **asked})
    assert answer.status_code == 202, answer.json()
    operation = work(answer.json()["task_id"])
    assert operation.state == "succeeded", operation.error
    vm = api.get(f"{API}/{answer.json()['vmid']}").json()
    return vm, operation


def refused(answer: Any, status: int, code: str, field: str = "") -> str:
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), body
    if field:
        assert body["errors"][0]["field"] == field
    return str(body["detail"])


# --- from an ISO ---


def test_an_iso_boots_with_an_empty_disk_beside_it(api, cluster, sim, work):
    vm, operation = made(
        api, work, disk_size=12, network="vmbr1", tags=["b", "A"], description="by hand"
    )
    assert [step["name"] for step in operation.steps] == ["create", "configure", "start", "ready"]
    assert (vm["status"], vm["os_template"], vm["template"]) == ("running", ISO, None)
    assert (vm["cores"], vm["memory"], vm["disk_size"]) == (2, 1024, 12)
    assert (vm["network"], vm["tags"], vm["description"]) == ("vmbr1", ["a", "b"], "by hand")
    config = sim.guest(int(vm["id"])).config
    assert config["scsi0"].endswith("size=12G")
    assert config["ide2"].startswith(f"{ISO},media=cdrom")
    assert config["boot"] == "order=scsi0;ide2;net0"
    assert (config["ostype"], config["agent"]) == ("l26", "enabled=1")
    assert "import-from" not in str(config)


def test_a_file_name_is_enough_where_there_is_one_of_it(api, cluster, sim, work):
    vm, _ = made(api, work, os_template="debian-12.11.0-amd64-netinst.iso")
    assert vm["os_template"] == ISO


def test_windows_gets_what_its_installer_has_drivers_for(api, cluster, sim, work):
    vm, _ = made(api, work, os_type="windows", os_template="virtio-win-0.1.271.iso")
    config = sim.guest(int(vm["id"])).config
    assert config["sata0"].endswith("size=20G")
    assert config["net0"].startswith("e1000=")
    assert (config["ostype"], config["boot"]) == ("win11", "order=sata0;ide2;net0")
    assert vm["os_type"] == "windows"


def test_it_is_not_started_when_it_is_not_asked_to(api, cluster, sim, work):
    vm, operation = made(api, work, start_on_create=False)
    assert vm["status"] == "stopped"
    assert "start" not in [step["name"] for step in operation.steps]


def test_a_batch_of_them(api, cluster, sim, work):
    body = api.post(API, {**NEW, "count": 2}).json()
    for task in body["tasks"]:
        assert work(task["id"]).state == "succeeded"
    assert [vm["name"] for vm in body["vms"]] == ["installed-1", "installed-2"]


def test_cloud_init_and_linked_make_no_sense_there(api, cluster):
    asked = {**NEW, "cloud_init": {"user": "admin"}}
    refused(api.post(API, asked), 400, "invalid", "cloud_init")
    refused(api.post(API, {**NEW, "linked": True}), 400, "invalid", "linked")


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("local:iso/none.iso", "image_not_found"),
        ("none.iso", "image_not_found"),
        ("nowhere:iso/debian.iso", "image_not_found"),
        ("local:backup/x.vma", "invalid"),
        ("local:iso/../x.iso", "invalid"),
        ("/etc/passwd", "invalid"),
        ("local:iso/a,b.iso", "invalid"),
    ],
)
def test_an_image_that_is_none_is_named(wanted, code, api, cluster):
    refused(api.post(API, {**NEW, "os_template": wanted}), 400, code, "os_template")


def test_one_of_two_is_not_guessed(api, cluster, sim):
    def add(live: Any) -> None:
        local = live.world.storages["local"]
        live.world.storages["isos"] = type(local)("isos", "dir", ["iso"], local.size, path="/x")
        volume = live.world.volumes_of(local, "pve")[ISO]
        other = ISO.replace("local:", "isos:")
        known = live.world.volumes_of(live.world.storages["isos"], "pve")
        known[other] = type(volume)(other, "iso", "iso", 1, 1, 0)
        live.cache.refresh()

    sim.change(add)
    look_at(cluster)
    asked = {**NEW, "os_template": ISO.rpartition("/")[2]}
    detail = refused(api.post(API, asked), 400, "image_ambiguous", "os_template")
    assert "isos:iso/" in detail
    assert api.post(API, NEW).status_code == 202


def look_at(cluster: Cluster) -> None:
    cycle.look_at(cluster)


def test_it_cannot_move_with_an_iso_that_only_its_node_has(api, cluster, sim, work):
    vm, _ = made(api, work)
    target = next(node for node in ("pve", "pve2") if node != vm["node"])
    address = f"{API}/{vm['id']}/actions"
    answer = api.post(address, {"action": "migrate", "node": target})
    assert ISO in refused(answer, 409, "local_iso")
    sim.change(lambda live: live.world.guests[int(vm["id"])].config.update(ide2="none,media=cdrom"))
    assert api.post(address, {"action": "migrate", "node": target}).status_code == 202


# --- where it goes ---


def test_only_a_node_that_sees_the_iso_will_do(api, cluster, sim):
    sim.change(lambda live: [live.world.volumes[("local", n)].pop(ISO) for n in ("pve", "pve2")])
    said = api.post(f"{API}?dry_run=true", NEW).json()
    assert said["node"] == "pve3"
    assert said["os_template"] == ISO
    assert "does not see" in said["rejected_nodes"]["pve"]
    assert [call["step"] for call in said["calls"]] == ["create", "start"]
    refused(api.post(API, {**NEW, "node": "pve"}), 409, "node_unsuitable", "node")


def test_the_disk_goes_to_shared_storage_unless_another_is_named(api, cluster, sim, work):
    said = api.post(f"{API}?dry_run=true", NEW).json()
    assert said["storage"] == "ceph"
    vm, _ = made(api, work, storage="local-lvm")
    assert sim.guest(int(vm["id"])).config["scsi0"].startswith("local-lvm:")
    refused(api.post(API, {**NEW, "storage": "local"}), 409, "no_node")
    refused(api.post(API, {**NEW, "storage": "nowhere"}), 400, "invalid", "storage")
    refused(api.post(API, {**NEW, "disk_size": 10_240}), 409, "no_node")


def test_a_storage_that_does_not_answer_is_no_missing_image(api, cluster, sim):
    sim.add_fault("status", path="/storage/local/content", status=596, text="broken", count=99)
    detail = refused(api.post(API, NEW), 503, "image_unknown")
    assert "local on pve" in detail


# --- from a cloud image ---


def test_a_cloud_image_becomes_a_disk_and_cloud_init_is_applied(api, cluster, sim, work, put_image):
    put_image(IMAGE, "pve2")
    vm, operation = made(
        api,
        work,
        os_template=IMAGE,
        disk_size=8,
        cloud_init={"user": "admin", "ssh_keys": [SSH_KEY], "password": "correct horse"},
        ip_config="ip=192.0.2.10/24,gw=192.0.2.1",
    )
    assert (vm["node"], vm["disk_size"], vm["os_template"]) == ("pve2", 8, IMAGE)
    assert vm["cloud_init"] == {
        "user": "admin",
        "ssh_keys": [SSH_KEY],
        "ip_config": "ip=192.0.2.10/24,gw=192.0.2.1",
        "password_set": True,
    }
    config = sim.guest(int(vm["id"])).config
    assert config["scsi0"] == f"ceph:vm-{vm['id']}-disk-0,size=8G"
    assert config["ide2"] == f"ceph:vm-{vm['id']}-cloudinit,media=cdrom"
    assert (config["serial0"], config["vga"]) == ("socket", "serial0")
    assert "grow_disk" in [step["name"] for step in operation.steps]


def test_without_addresses_it_asks_dhcp(api, cluster, sim, work, put_image):
    put_image(IMAGE, "pve")
    vm, _ = made(api, work, os_template="debian-13.qcow2")
    assert sim.guest(int(vm["id"])).config["ipconfig0"] == "ip=dhcp"


def test_user_data_takes_the_place_of_the_drive(api, cluster, sim, work, put_image):
    put_image(IMAGE, "pve")
    vm, _ = made(api, work, os_template=IMAGE, cloud_init={"user_data": "#!/bin/sh\ntrue\n"})
    config = sim.guest(int(vm["id"])).config
    (iso,) = [v for v in config.values() if ":iso/izvor-" in str(v)]
    volume = sim.world.find_volume(iso.partition(",")[0], "pve")
    assert volume is not None
    assert volume.payload is not None
    assert read_iso(volume.payload)["user-data"]
    assert not [value for value in config.values() if "cloudinit" in str(value)]


def test_an_image_larger_than_the_disk_asked_for_is_a_warning(api, cluster, sim, work, put_image):
    put_image(IMAGE, "pve")
    vm, operation = made(api, work, os_template=IMAGE, disk_size=2)
    assert vm["disk_size"] == 3
    assert operation.warnings == [
        "The image's disk has 3 GiB, more than the 2 that were asked for, and a disk cannot shrink."
    ]


def test_a_cloud_image_needs_8_4_and_an_iso_does_not(api, cluster, sim, put_image):
    put_image(IMAGE, "pve")
    Cluster.objects.filter(pk=cluster.pk).update(version="7.4.17")
    refused(api.post(API, {**NEW, "os_template": IMAGE}), 409, "needs_pve_8_4")
    assert api.post(API, NEW).status_code == 202


# --- what goes wrong on the way ---


def test_an_image_that_went_meanwhile_is_said_and_nothing_is_left(
    api, cluster, sim, work, put_image
):
    put_image(IMAGE, "pve")
    before = set(sim.guests())
    for wanted in (IMAGE, ISO):
        body = api.post(API, {**NEW, "os_template": wanted, "node": "pve"}).json()
        sim.change(lambda live, gone=wanted: live.world.volumes[("local", "pve")].pop(gone))
        ended = work(body["task_id"])
        assert (ended.state, ended.error_code) == ("failed", "image_gone"), ended.error
        assert set(sim.guests()) == before
        assert api.get(f"{API}/{body['vm']['uuid']}").status_code == 404


def test_a_foreign_vm_keeps_the_number_that_ours_was_to_get(api, cluster, sim, work):
    body = api.post(API, NEW).json()
    foreign = int(body["vmid"])
    theirs = put_foreign(sim, foreign, "pve2")
    ended = work(body["task_id"])
    assert ended.state == "succeeded", ended.error
    assert is_untouched(sim, foreign, theirs)
    vm = VirtualMachine.objects.get(uuid=body["vm"]["uuid"])
    assert vm.vmid != foreign
    assert f"vmid={vm.vmid} " in sim.guest(vm.vmid).config["description"]


def test_a_dead_worker_of_proxmox_leaves_a_lock_that_the_error_tells_how_to_clear(
    api, cluster, sim, work
):
    sim.cause(accidents.kill_next_task, kind="qmcreate", after_s=0.1)
    body = api.post(API, NEW).json()
    ended = work(body["task_id"])
    assert (ended.state, ended.error_code) == ("failed", "stuck_lock")
    assert f"qm unlock {body['vmid']}" in ended.error
    assert api.get(f"{API}/{body['vmid']}").json()["status"] == "error"
    sim.change(lambda live: live.world.guests[int(body["vmid"])].config.pop("lock"))
    deleting = api.delete(f"{API}/{body['vmid']}").json()
    assert work(deleting["task_id"]).state == "succeeded"
    assert sim.guest(int(body["vmid"])) is None


def test_one_that_is_being_made_can_be_deleted(api, cluster, sim, work):
    before = set(sim.guests())
    body = api.post(API, NEW).json()
    run_until(lambda: reread(Operation.objects.get(uuid=body["task_id"])), lambda o: o.upid)
    deleting = api.delete(f"{API}/{body['vmid']}").json()
    assert work(body["task_id"]).state == "canceled"
    assert work(deleting["task_id"]).state == "succeeded"
    assert set(sim.guests()) == before


def test_a_node_that_dies_before_it_begins_is_left(api, cluster, sim, work):
    body = api.post(API, NEW).json()
    chosen = body["vm"]["node"]
    sim.cause(accidents.node_down, node=chosen)
    look_at(cluster)
    ended = work(body["task_id"])
    assert ended.state == "succeeded", ended.error
    assert f"Node {chosen} is down" in ended.warnings[0]
    assert VirtualMachine.objects.get(uuid=body["vm"]["uuid"]).node != chosen
