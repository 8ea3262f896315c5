"""`POST /vms` from a template, through to the simulated Proxmox's own configuration."""

from __future__ import annotations

from typing import Any

import pytest

from proxmox import Client
from tests.conftest import SSH_KEY, run_until
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

MISSION = {
    "name": "my-server",
    "template": "ubuntu-22.04",
    "size": "medium",
    "cloud_init": {"user": "admin", "ssh_keys": [SSH_KEY], "ip_config": "ip=dhcp"},
    "start_on_create": True,
}
HARDWARE = ("cores", "memory", "disk_size", "network")


def test_the_missions_line_gives_a_running_vm_as_asked(api, cluster, sim, work):
    answer = api.post("/api/v1/vms", MISSION)
    assert answer.status_code == 202, answer.json()
    body = answer.json()
    assert body["vm"]["status"] == "creating"
    assert answer["Location"] == f"/api/v1/tasks/{body['task_id']}"

    operation = work(body["task_id"])
    assert operation.state == "succeeded", operation.error

    guest = sim.guest(int(body["vmid"]))
    assert guest is not None
    vm = api.get(f"/api/v1/vms/{body['vmid']}").json()
    assert vm["status"] == "running"
    assert (vm["cores"], vm["memory"], vm["disk_size"]) == (2, 2048, 40)
    assert vm["cloud_init"] == {"user": "admin", "ssh_keys": [SSH_KEY], "ip_config": "ip=dhcp"}
    assert VirtualMachine.objects.get(vmid=int(body["vmid"])).is_ours


def test_what_proxmox_does_not_take_fails_the_task_by_its_name(
    api, cluster, sim, work, monkeypatch
):
    """The answer was good, and the configuration is another: said, and nothing is left."""
    take = Client.update_config

    def lose_tags(client: Client, *args: Any, changes: dict[str, Any], **values: Any) -> None:
        take(client, *args, changes={**changes, "tags": "other"}, **values)

    monkeypatch.setattr(Client, "update_config", lose_tags)
    answer = api.post("/api/v1/vms", {**MISSION, "tags": ["wanted"]})
    operation = work(answer.json()["task_id"])
    assert operation.state == "failed"
    assert operation.error == "Proxmox reported success, but tags is 'other' instead of 'wanted'."
    assert sim.guest(int(answer.json()["vmid"])) is None


def test_what_was_accepted_counts_until_it_is_made(api, cluster, sim, work):
    body = api.post("/api/v1/vms", MISSION).json()
    asked = f"/api/v1/vms/{body['vmid']}"
    run_until(lambda: sim.guest(int(body["vmid"])), lambda guest: guest is not None)
    assert api.get(f"{asked}/snapshots").json()["count"] == 0
    vm = api.get(f"{asked}?refresh=true").json()
    assert vm["status"] == "creating"
    assert {name: vm[name] for name in HARDWARE} == {name: body["vm"][name] for name in HARDWARE}
    assert vm["cloud_init"] == body["vm"]["cloud_init"]
