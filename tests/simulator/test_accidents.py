"""Each accident twice: caused by the harness, and over the fault API as its documentation says."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from pve_simulator.world import GIB
from tests.simulator.client import Api

Cause = Callable[..., Any]


@pytest.fixture(params=["harness", "http"])
def cause(request: pytest.FixtureRequest, sim: SimulatorThread, api: Api) -> Cause:
    """Cause an accident by name."""

    def by_harness(name: str, **arguments: Any) -> Any:
        return sim.cause(accidents.ACCIDENTS[name], **arguments)

    def by_http(name: str, **arguments: Any) -> Any:
        body = json.dumps(arguments).encode()
        answer = api.send("POST", f"/sim/accidents/{name}", body, {})
        assert answer.status == 200, answer
        return answer.body["result"]

    return by_http if request.param == "http" else by_harness


def nodes(api: Api) -> dict[str, str]:
    return {row["node"]: row["status"] for row in api.get("/nodes").data}


def test_a_node_goes_down_and_comes_back_with_its_guests_off(cause: Cause, api: Api):
    clone = api.post("/nodes/pve2/qemu/9002/clone", newid=200, full=1).data
    cause("node_down", node="pve2")
    answer = api.get("/nodes/pve2/qemu/101/status/current")
    assert (answer.status, answer.reason, answer.body) == (595, "No route to host", "")
    assert nodes(api)["pve2"] == "offline"
    assert api.get("/nodes/pve/qemu/100/status/current").data["status"] == "running"
    cause("node_up", node="pve2")
    assert nodes(api)["pve2"] == "online"
    assert api.get("/nodes/pve2/qemu/101/status/current").data["status"] == "stopped"
    assert api.task(clone)["exitstatus"] == "unexpected status"


def test_a_silent_node_makes_its_guests_unknown(cause: Cause, api: Api):
    cause("node_down", node="pve2")
    cause("age_silence", node="pve2", seconds=301)
    rows = {row["vmid"]: row for row in api.get("/cluster/resources", type="vm").data}
    assert rows[101]["status"] == "unknown"
    assert "name" not in rows[101]


def test_a_lost_quorum_leaves_reading(cause: Cause, api: Api):
    cause("quorum", has_quorum=False)
    for answer in (
        api.put("/nodes/pve/qemu/100/config", memory=2048),
        api.post("/nodes/pve/qemu/100/status/stop"),
        api.post("/nodes/pve/qemu/9000/clone", newid=200),
        api.delete("/nodes/pve3/qemu/102"),
    ):
        assert (answer.status, answer.reason) == (500, "cluster not ready - no quorum?")
    assert api.get("/nodes/pve/qemu/100/config").data["memory"] == "1024"
    status = next(row for row in api.get("/cluster/status").data if row["type"] == "cluster")
    assert status["quorate"] == 0
    cause("quorum", has_quorum=True)
    assert api.put("/nodes/pve/qemu/100/config", memory=2048).status == 200


def test_a_full_storage_takes_no_full_clone_and_leaves_nothing_of_it(cause: Cause, api: Api):
    cause("storage_full", storage="ceph", free_bytes=GIB)
    storage = {row["storage"]: row for row in api.get("/nodes/pve/storage").data}["ceph"]
    assert storage["avail"] == GIB
    status = api.done(api.post("/nodes/pve/qemu/9000/clone", newid=200, full=1))
    assert status.endswith("No space left on device")
    assert api.get("/nodes/pve/qemu/200/config").status == 500
    assert api.done(api.post("/nodes/pve/qemu/9000/clone", newid=200, full=0)) == "OK"


def test_an_offline_storage_comes_back(cause: Cause, sim: SimulatorThread, api: Api):
    sim.cause(accidents.crash_guest, vmid=101)
    start = "/nodes/pve2/qemu/101/status/start"
    cause("storage_offline", storage="ceph", node="pve2")
    active = {
        node: {row["storage"]: row["active"] for row in api.get(f"/nodes/{node}/storage").data}
        for node in ("pve", "pve2")
    }
    assert (active["pve"]["ceph"], active["pve2"]["ceph"]) == (1, 0)
    assert api.done(api.post(start)) == "storage 'ceph' is not online"
    cause("storage_online", storage="ceph")
    assert api.done(api.post(start)) == "OK"


def test_storages_can_be_slow(cause: Cause, sim: SimulatorThread):
    cause("storage_speed", storage="ceph", mib_per_s=64)
    cause("storage_slow", storage="ceph", allocate_s=7.0, free_s=8.0)
    storage = sim.world.storages["ceph"]
    assert (storage.copy_bytes_s, storage.allocate_s, storage.free_s) == (64 * 2**20, 7.0, 8.0)


def test_a_killed_worker_leaves_the_lock(cause: Cause, sim: SimulatorThread, api: Api):
    sim.cause(accidents.storage_speed, storage="ceph", mib_per_s=1)
    upid = api.post("/nodes/pve/qemu/9000/clone", newid=200, full=1).data
    sim.wait_for(lambda live: 200 in live.world.guests, what="the clone's config")
    assert cause("kill_task", upid=upid) is True
    assert api.task(upid)["exitstatus"] == "unexpected status"
    assert not any(line.startswith("TASK") for line in api.log(upid))
    assert api.get("/nodes/pve/qemu/200/config").data["lock"] == "clone"
    assert cause("kill_task", upid=upid) is False


def test_the_next_worker_can_be_killed_fail_or_warn(cause: Cause, api: Api):
    start = "/nodes/pve3/qemu/102/status/start"
    cause("kill_next_task", kind="qmstart")
    assert api.done(api.post(start)) == "unexpected status"
    cause("fail_next_task", kind="qmstart", text="kaboom")
    assert api.done(api.post(start)) == "kaboom"
    cause("warn_next_task", kind="qmstart", text="odd")
    upid = api.post(start).data
    assert api.task(upid)["exitstatus"] == "WARNINGS: 1"
    assert api.log(upid)[-2:] == ["WARN: odd", "TASK WARNINGS: 1"]
    assert api.get("/nodes/pve3/qemu/102/status/current").data["status"] == "running"


def test_old_tickets_are_refused_and_new_ones_are_not(cause: Cause, sim: SimulatorThread, api: Api):
    guest = Api(sim, headers={})

    def headers() -> dict[str, str]:
        login = guest.post("/access/ticket", username="root@pam", password=sim.password).data
        csrf = {"CSRFPreventionToken": login["CSRFPreventionToken"]}
        return {"Cookie": f"PVEAuthCookie={login['ticket']}"} | csrf

    old = headers()
    assert Api(sim, headers=old).get("/version").status == 200
    cause("expire_tickets")
    assert Api(sim, headers=old).get("/version").status == 401
    sim.wait_for(
        lambda live: live.clock.now() >= live.access.tickets_valid_from, what="the next second"
    )
    new = headers()
    assert Api(sim, headers=new).put("/nodes/pve/qemu/100/config", memory=2048).status == 200
    mixed = new | {"CSRFPreventionToken": old["CSRFPreventionToken"]}
    assert Api(sim, headers=mixed).put("/nodes/pve/qemu/100/config", memory=1024).status == 401


def test_an_expired_token_is_refused(cause: Cause, sim: SimulatorThread, api: Api):
    cause("expire_token", token=sim.token_id)
    assert api.get("/version").status == 401


def test_handshakes_fail_so_often_as_asked(cause: Cause, api: Api):
    cause("broken_tls", count=2)
    for _ in range(2):
        with pytest.raises(ssl.SSLError, match=r"(?i)handshake"):
            api.get("/version")
    assert api.get("/version").status == 200


def test_a_strangers_certificate_is_noticed(cause: Cause, sim: SimulatorThread, api: Api):
    cause("foreign_certificate")
    with pytest.raises(ssl.SSLCertVerificationError):
        api.get("/version")
    sim.cause(accidents.foreign_certificate, is_foreign=False)
    assert api.get("/version").status == 200


def test_guests_crash_fall_silent_and_turn_deaf(cause: Cause, api: Api):
    base = "/nodes/pve/qemu/100"
    cause("agent_dead", vmid=100)
    answer = api.post(f"{base}/agent/ping")
    assert (answer.status, answer.reason) == (500, "QEMU guest agent is not running")
    cause("agent_dead", vmid=100, is_dead=False)
    assert api.post(f"{base}/agent/ping").status == 200
    cause("deaf_guest", vmid=100)
    refused = api.done(api.post(f"{base}/status/shutdown", timeout=3))
    assert refused == "VM quit/powerdown failed - got timeout"
    cause("crash_guest", vmid=100)
    assert api.get(f"{base}/status/current").data["status"] == "stopped"


def test_config_changes_behind_everybodys_back(cause: Cause, api: Api):
    config = "/nodes/pve/qemu/100/config"
    cause("set_option", vmid=100, key="memory", value="3072")
    assert api.get(config).data["memory"] == "3072"
    cause("set_lock", vmid=100, lock="backup")
    assert api.get(config).data["lock"] == "backup"
    assert api.done(api.post("/nodes/pve/qemu/100/status/stop")) == "VM is locked (backup)"
    cause("set_lock", vmid=100, lock=None)
    assert "lock" not in api.get(config).data


def test_ha_moves_a_guest(cause: Cause, api: Api):
    cause("ha_move", vmid=101, node="pve3")
    assert api.get("/nodes/pve2/qemu/101/status/current").status == 500
    assert api.get("/nodes/pve3/qemu/101/status/current").data["status"] == "running"


def test_ha_cannot_start_a_guest_away_from_its_local_disk(cause: Cause, api: Api):
    cause("ha_move", vmid=100, node="pve3")
    assert api.get("/nodes/pve3/qemu/100/status/current").data["status"] == "stopped"


def test_every_accident_is_tested_here_and_documented():
    tests = Path(__file__).read_text()
    pages = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    for name in accidents.ACCIDENTS:
        assert f'"{name}"' in tests, name
        assert f"`{name}`" in pages, name
