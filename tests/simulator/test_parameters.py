from __future__ import annotations

import json

import pytest

from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZLmW3l8sH0l8v5X6cQb9u4VtC1m2n3o4p5q6r7s8t9 me@host"


def test_an_unknown_parameter_is_named(api: Api):
    answer = api.put("/nodes/pve/qemu/100/config", nosuch=1)
    assert answer.status == 400
    assert answer.reason == "Parameter verification failed."
    assert list(answer.errors) == ["nosuch"]


def test_a_json_body_counts_as_a_form(api: Api):
    body = json.dumps({"memory": 2048, "onboot": True}).encode()
    headers = api.headers | {"Content-Type": "application/json"}
    answer = api.send("PUT", "/api2/json/nodes/pve/qemu/100/config", body, headers)
    assert answer.status == 200, answer.reason
    config = api.get("/nodes/pve/qemu/100/config").data
    assert (config["memory"], config["onboot"]) == ("2048", 1)


def test_a_literal_equals_sign_cuts_a_form_value(api: Api):
    headers = api.headers | {"Content-Type": "application/x-www-form-urlencoded"}
    target = "/api2/json/nodes/pve/qemu/100/config"
    assert api.send("PUT", target, b"description=a=b", headers).status == 200
    assert api.get("/nodes/pve/qemu/100/config").data["description"] == "a"


def test_ssh_keys_must_be_percent_encoded_once_more(api: Api):
    answer = api.put("/nodes/pve/qemu/100/config", sshkeys=KEY)
    assert answer.errors["sshkeys"].startswith("invalid format - invalid urlencoded string")


def test_ssh_keys_must_be_keys(api: Api):
    answer = api.put("/nodes/pve/qemu/100/config", sshkeys="ssh-ed25519%20AAAA...")
    assert (answer.status, answer.reason) == (500, "SSH public key validation error")


@pytest.mark.parametrize("size", [513 * 1024, 2 * 1024 * 1024])
def test_a_huge_body_is_refused(api: Api, size: int):
    headers = api.headers | {"Content-Type": "application/x-www-form-urlencoded"}
    body = b"description=" + b"x" * size
    answer = api.send("PUT", "/api2/json/nodes/pve/qemu/100/config", body, headers)
    assert answer.status == 501


def test_a_delete_with_a_body_is_refused(api: Api):
    answer = api.send("DELETE", "/api2/json/nodes/pve3/qemu/102", b"purge=1", api.headers)
    assert (answer.status, answer.reason) == (501, "Unexpected content for method 'DELETE'")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cores": 0}, "cores"),
        ({"name": "bad_name"}, "name"),
        ({"ipconfig0": "ip=10.0.0.5"}, "ipconfig0"),
        ({"ipconfig0": "ip=dhcp,gw=nowhere"}, "ipconfig0"),
        ({"net0": "virtio,bridge=vmbr0,nosuch=1"}, "net0"),
        ({"tags": "a;b c;$"}, "tags"),
        ({"boot": "order=floppy0"}, "boot"),
        ({"scsi1": "nonsense"}, "scsi1"),
        ({"agent": "enabled=maybe"}, "agent"),
    ],
)
def test_a_bad_value_names_its_parameter(api: Api, values: dict[str, object], field: str):
    answer = api.put("/nodes/pve/qemu/100/config", **values)
    assert answer.status == 400, answer.reason
    assert list(answer.errors) == [field]


def test_version_7_4_keeps_the_message_out_of_the_body():
    with SimulatorThread(speed=20, pve_version="7.4") as sim:
        answer = Api(sim).get("/nodes/pve/qemu/999/config")
        assert "does not exist" in answer.reason
        assert answer.body == {"data": None}


def test_version_7_4_answers_null_to_a_resize():
    with SimulatorThread(speed=20, pve_version="7.4") as sim:
        answer = Api(sim).put("/nodes/pve/qemu/100/resize", disk="scsi0", size="+1G")
        assert answer.data is None
        assert "size=21G" in str(sim.world.guests[100].config["scsi0"])


@pytest.mark.parametrize(
    "target", ["/", "/api2", "/api2/json/../../etc", "/api2/json/%ff%fe", "/api2/json/nodes/%00"]
)
def test_odd_paths_are_answered_and_do_no_harm(api: Api, target: str):
    assert api.send("GET", target, None, api.headers).status in (400, 404, 500, 501)
    assert api.get("/version").status == 200
