from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api
from tests.simulator.conftest import SPEED

CONFIG = "/nodes/pve/qemu/100/config"
LOST = (http.client.RemoteDisconnected, ConnectionResetError, http.client.IncompleteRead)


AddFault = Callable[..., Any]


@pytest.fixture(params=["harness", "http"])
def add_fault(request: pytest.FixtureRequest, sim: SimulatorThread, api: Api) -> AddFault:
    """Add a rule, by the harness and over the fault API as its documentation says."""

    def by_http(kind: str, **settings: Any) -> None:
        status, body = sim_call(api, "POST", "/sim/faults", {"kind": kind, **settings})
        assert status == 200, body

    return by_http if request.param == "http" else sim.add_fault


def sim_call(api: Api, method: str, path: str, body: object = None) -> tuple[int, Any]:
    raw = b"" if body is None else json.dumps(body).encode()
    answer = api.send(method, path, raw, {"Content-Type": "application/json"})
    return answer.status, answer.body


def test_an_answer_lost_after_the_effect(add_fault: AddFault, api: Api):
    add_fault("drop_after_effect", method="PUT", path=r"/100/config$")
    with pytest.raises(LOST):
        api.put(CONFIG, memory=4096)
    assert api.get(CONFIG).data["memory"] == "4096"


def test_an_answer_lost_before_the_effect(add_fault: AddFault, api: Api):
    add_fault("drop_before_effect", method="PUT", path=r"/100/config$")
    with pytest.raises(LOST):
        api.put(CONFIG, memory=4096)
    assert api.get(CONFIG).data["memory"] == "1024"


def test_an_answer_cut_in_the_middle(add_fault: AddFault, api: Api):
    add_fault("cut", path=r"/cluster/resources$")
    with pytest.raises(LOST):
        api.get("/cluster/resources")
    assert api.get("/cluster/resources").status == 200


@pytest.mark.parametrize("status", [500, 595, 596, 599])
def test_a_status_of_choice_so_often_as_asked(add_fault: AddFault, api: Api, status: int):
    add_fault("status", path="/version", status=status, text="no way", count=2)
    answers = [api.get("/version") for _ in range(3)]
    assert [answer.status for answer in answers] == [status, status, 200]
    assert answers[0].reason == "no way"


def test_a_refusal_with_errors_reads_like_one_of_proxmox(add_fault: AddFault, api: Api):
    errors = {"upid": "no such task"}
    text = "Parameter verification failed."
    add_fault("status", path="/tasks/", status=400, text=text, errors=errors)
    answer = api.get("/nodes/pve/tasks/UPID:x/status")
    assert (answer.status, answer.reason, answer.errors) == (400, text, errors)


def test_a_delay_in_simulated_seconds(add_fault: AddFault, api: Api):
    add_fault("delay", path="/version", seconds=6)
    began = time.monotonic()
    assert api.get("/version").status == 200
    assert (time.monotonic() - began) * SPEED >= 6


def test_the_next_worker_of_a_kind_is_killed(sim: SimulatorThread, api: Api):
    sim.cause(accidents.kill_next_task, kind="qmclone", after_s=0.5)
    status = api.done(api.post("/nodes/pve/qemu/9000/clone", newid=200, full=1))
    assert status == "unexpected status"
    guest = sim.guest(200)
    assert guest is not None
    assert guest.lock == "clone"


def test_the_fault_api_adds_lists_and_clears_rules(api: Api):
    rule = {"kind": "status", "path": "/version", "status": 599, "text": "x"}
    assert sim_call(api, "POST", "/sim/faults", rule)[0] == 200
    assert api.get("/version").status == 599
    status, body = sim_call(api, "GET", "/sim/faults")
    assert (status, body["faults"][0]["hits"]) == (200, 1)
    assert sim_call(api, "DELETE", "/sim/faults") == (200, {"faults": []})


def test_the_fault_api_causes_accidents(sim: SimulatorThread, api: Api):
    status, _ = sim_call(api, "POST", "/sim/accidents/node_down", {"node": "pve3"})
    assert status == 200
    assert not sim.world.nodes["pve3"].is_online


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/sim/faults", {"kind": "nosuch"}),
        ("/sim/faults", {"kind": "status", "path": "("}),
        ("/sim/faults", {"nosuch": 1}),
        ("/sim/faults", [1]),
        ("/sim/faults", {"kind": "status", "status": "500"}),
        ("/sim/faults", {"kind": "status", "status": 99999}),
        ("/sim/faults", {"kind": "status", "errors": {"x": 1}, "count": "2"}),
        ("/sim/faults", {"kind": "delay", "seconds": "long"}),
        ("/sim/faults", {"kind": "delay", "seconds": -1}),
        ("/sim/accidents/nosuch", {}),
        ("/sim/accidents/kill_next_task", {"kind": "qmstart", "after_s": "soon"}),
        ("/sim/accidents/storage_slow", {"storage": "ceph", "allocate_s": "slow"}),
        ("/sim/accidents/quorum", {"has_quorum": "no"}),
        ("/sim/accidents/crash_guest", {"vmid": True}),
        ("/sim/accidents/ha_move", {"vmid": 100}),
        ("/sim/accidents/storage_full", {"sim": 1}),
        ("/sim/accidents/node_down", {"node": "nosuch"}),
        ("/sim/accidents/crash_guest", {"vmid": 1}),
    ],
)
def test_the_fault_api_refuses_nonsense_with_a_sentence(api: Api, path: str, body: object):
    status, answer = sim_call(api, "POST", path, body)
    assert status == 400
    assert isinstance(answer, dict)
    assert answer["error"]


def test_the_fault_api_is_closed_unless_asked_for():
    with SimulatorThread() as sim:
        assert sim_call(Api(sim), "GET", "/sim/faults")[0] == 404


def test_slow_allocations_on_a_shared_storage_time_each_other_out(sim: SimulatorThread, api: Api):
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=8.0)
    path = "/nodes/pve/qemu/9000/clone"
    upids = [api.post(path, newid=200 + number).data for number in range(4)]
    ends = [api.task(upid)["exitstatus"] for upid in upids]
    timeout = "error during cfs-locked 'storage-ceph' operation: got lock request timeout"
    assert f"clone failed: {timeout}" in ends
    assert "OK" in ends


def test_a_refusals_text_may_hold_anything(add_fault: AddFault, api: Api):
    add_fault("status", path="/version", text="two\nlines\0")
    assert api.get("/version").reason == "two lines"
