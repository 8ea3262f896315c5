"""`POST /templates`: from a cloud image to a template, and nothing left behind otherwise."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.utils.encoders import JSONEncoder

from clusters.models import Cluster
from operations.models import Claim, Operation
from operations.rest import final_answer
from pve_simulator import accidents
from templates_app.models import Template
from tests.conftest import run_until
from tests.images import SHA256
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1/templates"


def asked(images: Any, **changes: Any) -> dict[str, Any]:
    return {
        "name": "debian-13",
        "url": f"{images.url}/debian.qcow2",
        "checksum": f"sha256:{SHA256}",
        "description": "from the project's own image",
        "tags": ["Cloud"],
        "user": "debian",
        **changes,
    }


def test_a_template_from_a_url_and_a_vm_from_it(api, cluster, sim, work, images, files_on):
    answer = api.post(API, asked(images, disk_size=5))
    assert answer.status_code == 202, answer.json()
    body = answer.json()
    assert body["template"]["status"] == "creating"
    assert answer["Location"] == f"/api/v1/tasks/{body['task_id']}"
    operation = work(body["task_id"])
    assert operation.state == "succeeded", operation.error
    assert operation.warnings == []
    assert [step["name"] for step in operation.steps] == [
        "download",
        "create",
        "configure",
        "grow_disk",
        "remove_image",
        "convert",
    ]

    status, said, _ = final_answer([operation])
    assert (status, said["template"]["status"]) == (201, "ready")
    template = api.get(f"{API}/debian-13").json()
    assert template == json.loads(json.dumps(said["template"], cls=JSONEncoder))
    assert template["id"] == body["template"]["id"]
    assert template["uuid"] == body["template"]["uuid"]
    assert (template["status"], template["disk_size"], template["cloud_init"]) == ("ready", 5, True)
    assert template["description"] == "from the project's own image"
    assert template["tags"] == ["cloud"]
    assert template["nodes"] == ["pve", "pve2", "pve3"], "shared storage is preferred"
    config = sim.guest(int(template["id"])).config
    assert config["template"] == 1
    assert config["scsi0"].startswith("ceph:base-")
    assert "cloudinit" in config["ide2"]
    assert (config["serial0"], config["vga"], config["agent"]) == ("socket", "serial0", "enabled=1")
    assert (config["scsihw"], config["boot"]) == ("virtio-scsi-single", "order=scsi0")
    assert (config["ciuser"], config["ipconfig0"]) == ("debian", "ip=dhcp")
    assert files_on() == set(), "the image was a means"
    assert not VirtualMachine.objects.filter(name="debian-13", deleted_at=None).exists()

    made = api.post("/api/v1/vms", {"name": "web", "template": "debian-13", "disk_size": 6}).json()
    assert work(made["task_id"]).state == "succeeded"
    vm = api.get(f"/api/v1/vms/{made['vmid']}").json()
    assert (vm["status"], vm["template"], vm["disk_size"]) == ("running", "debian-13", 6)


def test_it_is_nobodys_vm_while_it_is_made(api, cluster, sim, images, operator, project):
    body = api.post(API, asked(images)).json()
    vm = api.get(f"/api/v1/vms/{body['template']['uuid']}").json()
    assert (vm["status"], vm["project"]) == ("creating", None)
    assert api.get(API).json()["count"] == 3
    assert api.get(f"{API}/{body['template']['uuid']}").status_code == 404


def test_an_image_that_is_there_already_is_used_and_stays(
    api, cluster, sim, work, images, files_on, put_image
):
    put_image("local:import/mine.qcow2", "pve2")
    for name, volume in (("one", "local:import/mine.qcow2"), ("two", "mine.qcow2")):
        body = api.post(API, {"name": name, "volume": volume}).json()
        operation = work(body["task_id"])
        assert operation.state == "succeeded", operation.error
        assert operation.params["placement"]["node"] == "pve2", "only there it is seen"
        assert "download" not in [step["name"] for step in operation.steps]
    assert files_on() == {"local:import/mine.qcow2"}
    assert images.asked == []


# --- what goes wrong ---


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"checksum": "0" * 64}, "checksum mismatch"),
        ({"url": "/none.qcow2", "checksum": SHA256}, "404"),
        ({"url": "http://127.0.0.1:9/debian.qcow2"}, "Connection refused"),
    ],
)
def test_what_stood_against_the_download_is_said_and_nothing_is_left(
    changes, says, api, cluster, sim, work, images, files_on
):
    if changes.get("url", "").startswith("/"):
        changes = {**changes, "url": images.url + changes["url"]}
    guests = set(sim.guests())
    body = api.post(API, asked(images, **changes)).json()
    operation = work(body["task_id"])
    assert operation.state == "failed"
    assert says in operation.error
    assert set(sim.guests()) == guests
    assert files_on() == set()
    assert not Claim.objects.exists()
    assert api.get(f"/api/v1/vms/{body['template']['uuid']}").status_code == 404
    assert api.post(API, asked(images)).status_code == 202, "the name is free again"


def test_a_failure_after_the_download_takes_the_image_away(
    api, cluster, sim, work, images, files_on
):
    sim.cause(accidents.fail_next_task, kind="qmtemplate", text="disk is on fire")
    guests = set(sim.guests())
    operation = work(api.post(API, asked(images)).json()["task_id"])
    assert (operation.state, operation.error) == ("failed", "disk is on fire")
    assert set(sim.guests()) == guests
    assert files_on() == set()
    assert not Template.objects.filter(name="debian-13").exists()


def test_a_file_of_somebody_elses_is_not_undone(
    api, cluster, sim, work, images, files_on, put_image
):
    put_image("local:import/theirs.qcow2", "pve", "pve2", "pve3")
    operation = work(api.post(API, asked(images, checksum="0" * 64)).json()["task_id"])
    assert operation.state == "failed"
    assert files_on() == {"local:import/theirs.qcow2"}


def test_an_image_that_cannot_be_removed_is_a_warning(api, cluster, sim, work, images):
    sim.add_fault(
        "status",
        method="DELETE",
        path="/content/",
        status=403,
        text="Permission check failed (/storage/local, Datastore.Allocate)",
        count=99,
    )
    operation = work(api.post(API, asked(images)).json()["task_id"])
    assert operation.state == "succeeded", operation.error
    assert "Datastore.Allocate" in operation.warnings[0]
    assert Template.objects.filter(name="debian-13").exists()


def test_a_cancel_stops_the_download_and_leaves_nothing(api, cluster, sim, work, images, files_on):
    images.is_open.clear()
    body = api.post(API, asked(images)).json()
    run_until(lambda: images.asked, bool)
    assert api.post(f"/api/v1/tasks/{body['task_id']}/cancel").status_code == 202
    operation = work(body["task_id"])
    assert operation.state == "canceled"
    assert files_on() == set()
    assert not sim.tasks("qmcreate")


def test_a_lost_answer_does_not_download_twice(api, cluster, sim, work, images):
    images.is_open.clear()
    sim.add_fault("drop_after_effect", method="POST", path="/download-url$")
    body = api.post(API, asked(images)).json()
    run_until(
        lambda: Operation.objects.get(uuid=body["task_id"]), lambda o: "download" in o.waiting_for
    )
    images.is_open.set()
    operation = work(body["task_id"])
    assert operation.state == "succeeded", operation.error
    assert len(images.asked) == 1


def test_an_old_proxmox_is_told_apart_before_anything_happens(api, cluster, sim, images):
    Cluster.objects.filter(pk=cluster.pk).update(version="8.3.5")
    sim.forget_calls()
    answer = api.post(API, asked(images))
    assert (answer.status_code, answer.json()["code"]) == (409, "needs_pve_8_4")
    assert "8.3.5" in answer.json()["detail"]
    assert sim.calls == []


def test_a_name_that_exists_or_is_being_made_is_refused(api, cluster, sim, images):
    answer = api.post(API, asked(images, name="ubuntu-22.04"))
    assert (answer.status_code, answer.json()["code"]) == (409, "template_exists")
    first = api.post(API, asked(images)).json()
    answer = api.post(API, asked(images))
    assert (answer.status_code, answer.json()["code"]) == (409, "claimed")
    assert first["task_id"] in answer.json()["detail"]


def test_a_cluster_without_a_storage_for_images_says_how_to_get_one(api, cluster, images):
    for storage in cluster.storages.all():
        storage.content = [kind for kind in storage.content if kind != "import"]
        storage.save(update_fields=["content"])
    answer = api.post(API, asked(images))
    assert (answer.status_code, answer.json()["code"]) == (409, "no_import_storage")
    assert "Import" in answer.json()["detail"]


# --- trying again ---


def failed_build(api: Any, sim: Any, work: Any, images: Any) -> str:
    """The task of a build that failed, and was undone."""
    sim.cause(accidents.fail_next_task, kind="qmtemplate", text="disk is on fire")
    task: str = api.post(API, asked(images)).json()["task_id"]
    assert work(task).state == "failed"
    return task


def test_a_failed_one_can_be_tried_again(api, cluster, sim, work, images, files_on):
    answer = api.post(f"/api/v1/tasks/{failed_build(api, sim, work, images)}/retry")
    assert answer.status_code == 202, answer.json()
    operation = work(answer.json()["task_id"])
    assert operation.state == "succeeded", operation.error
    assert api.get(f"{API}/debian-13").json()["uuid"] == answer.json()["template"]["uuid"]
    assert len(images.asked) == 2
    assert files_on() == set()


def test_not_when_its_name_was_taken_meanwhile(api, cluster, sim, work, images):
    failed = failed_build(api, sim, work, images)
    Template.objects.filter(vmid=9001).update(name="debian-13")
    answer = api.post(f"/api/v1/tasks/{failed}/retry")
    assert (answer.status_code, answer.json()["code"]) == (409, "template_exists")


# --- dry run ---


def test_a_dry_run_says_where_and_what_and_does_nothing(api, cluster, sim, images):
    sim.forget_calls()
    answer = api.post(f"{API}?dry_run=true", asked(images, node="pve2", storage="local-lvm"))
    assert answer.status_code == 200, answer.json()
    said = answer.json()
    assert (said["node"], said["storage"]) == ("pve2", "local-lvm")
    assert [call["step"] for call in said["calls"]] == [
        "download",
        "create",
        "configure",
        "remove_image",
        "convert",
    ]
    assert not Operation.objects.exists()
    assert sim.calls == []


def test_a_dry_run_does_not_look_at_its_key(api, cluster, sim, images):
    key = {"Idempotency-Key": "k1"}
    assert api.post(API, asked(images), headers=key).status_code == 202
    said = api.post(f"{API}?dry_run=true", asked(images, name="other"), headers=key)
    assert (said.status_code, said.json()["dry_run"]) == (200, True)
