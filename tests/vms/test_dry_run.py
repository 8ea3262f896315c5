"""`?dry_run=true` says what would happen, and nothing happens."""

from __future__ import annotations

import pytest

from accounts.models import Quota
from operations.models import Operation
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

WEB = {"name": "web", "template": "ubuntu-22.04", "size": "small"}


def test_it_names_the_node_and_why_the_quota_and_the_calls(api, cluster, sim, project):
    Quota.objects.create(project=project, vms=3, memory_mib=4096)
    before = VirtualMachine.objects.count()
    sim.forget_calls()
    answer = api.post("/api/v1/vms?dry_run=true", WEB)
    assert answer.status_code == 200, answer.json()
    said = answer.json()
    assert said["node"] in {"pve", "pve2", "pve3"}
    assert said["reason"].startswith("most free memory")
    assert (said["size"], said["cores"], said["memory"], said["disk_size"]) == (
        "small",
        1,
        1024,
        20,
    )
    assert said["quota"]["vms"] == {"used": 0, "adds": 1, "limit": 3}
    assert said["quota"]["disk"]["limit"] is None
    assert [call["step"] for call in said["calls"]] == ["clone", "configure", "grow_disk", "start"]
    assert said["calls"][0]["path"] == "/nodes/pve/qemu/9000/clone"
    assert VirtualMachine.objects.count() == before
    assert not Operation.objects.exists()
    assert sim.calls == []


def test_it_refuses_what_the_creation_would_refuse(api, cluster, project):
    Quota.objects.create(project=project, vms=0)
    answer = api.post("/api/v1/vms?dry_run=true", WEB)
    assert (answer.status_code, answer.json()["code"]) == (403, "quota_exceeded")
    answer = api.post("/api/v1/vms?dry_run=true", {**WEB, "node": "pve9"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "node")


def test_a_template_on_local_storage_leaves_one_node_and_says_why_not_the_others(api, cluster):
    said = api.post("/api/v1/vms?dry_run=true", {**WEB, "template": "rocky-9"}).json()
    assert said["node"] == "pve2"
    assert set(said["rejected_nodes"]) == {"pve", "pve3"}
    assert "local storage of pve2" in said["rejected_nodes"]["pve"]


def test_dry_run_is_true_or_false(api, cluster):
    answer = api.post("/api/v1/vms?dry_run=maybe", WEB)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "dry_run")
