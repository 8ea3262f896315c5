from __future__ import annotations

from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api


def rows(api: Api) -> dict[int, dict[str, object]]:
    return {row["vmid"]: row for row in api.get("/cluster/resources", type="vm").data}


def test_the_demo_cluster_is_as_documented(api: Api):
    found = rows(api)
    templates = {row["name"]: row["node"] for row in found.values() if row["template"]}
    assert templates == {"ubuntu-22.04": "pve", "debian-12": "pve", "rocky-9": "pve2"}
    states = {
        api.get(f"/nodes/{found[v]['node']}/qemu/{v}/status/current").data["qmpstatus"]
        for v in range(100, 108)
    }
    assert states == {"running", "stopped", "paused"}
    assert api.get("/nodes/pve/qemu/100/agent/network-get-interfaces").status == 200
    storages = {row["storage"]: row["type"] for row in api.get("/nodes/pve/storage").data}
    assert storages == {"local": "dir", "local-lvm": "lvmthin", "ceph": "rbd"}
    isos = api.get("/nodes/pve/storage/local/content", content="iso").data
    assert len(isos) == 2
    cluster = next(row for row in api.get("/cluster/status").data if row["type"] == "cluster")
    assert (cluster["name"], cluster["quorate"], cluster["nodes"]) == ("demo", 1, 3)


def test_the_list_lags_behind_the_truth():
    with SimulatorThread(speed=1) as sim:
        api = Api(sim)
        sim.cause(accidents.crash_guest, vmid=100)
        assert rows(api)[100]["status"] == "running"
        assert api.get("/nodes/pve/qemu/100/status/current").data["status"] == "stopped"
        sim.change(lambda live: live.cache.refresh())
        assert rows(api)[100]["status"] == "stopped"


def test_lock_and_tags_are_current():
    with SimulatorThread(speed=1) as sim:
        api = Api(sim)
        sim.cause(accidents.set_lock, vmid=100, lock="backup")
        api.put("/nodes/pve2/qemu/101/config", tags="New;tag")
        found = rows(api)
        assert found[100]["lock"] == "backup"
        assert found[101]["tags"] == "new;tag"


def test_a_new_vm_is_unknown_and_nameless_until_the_next_cycle():
    with SimulatorThread(speed=5) as sim:
        api = Api(sim)
        sim.change(lambda live: live.cache.refresh())
        assert api.done(api.post("/nodes/pve/qemu", vmid=300, name="new")) == "OK"
        assert rows(api)[300] == {
            "id": "qemu/300",
            "type": "qemu",
            "vmid": 300,
            "node": "pve",
            "status": "unknown",
        }
        sim.change(lambda live: live.cache.refresh())
        assert rows(api)[300]["name"] == "new"


def test_a_deleted_and_recreated_number_still_shows_the_old_vm():
    with SimulatorThread(speed=5) as sim:
        api = Api(sim)
        sim.cause(accidents.crash_guest, vmid=100)
        assert api.done(api.delete("/nodes/pve/qemu/100")) == "OK"
        assert api.done(api.post("/nodes/pve/qemu", vmid=100, name="other")) == "OK"
        assert rows(api)[100]["name"] == "web-01"


def test_without_lag_the_list_is_the_truth():
    with SimulatorThread(speed=1, is_lagging=False) as sim:
        sim.cause(accidents.crash_guest, vmid=100)
        assert rows(Api(sim))[100]["status"] == "stopped"


def test_the_cycle_goes_on_by_itself(sim: SimulatorThread, api: Api):
    sim.cause(accidents.crash_guest, vmid=100)
    sim.wait_for(lambda live: '"stopped"' in live.cache.guest_json(live.world.guests[100]))
    assert rows(api)[100]["status"] == "stopped"


def test_a_dead_node_answers_595_and_its_guests_keep_their_rows_for_a_while(
    sim: SimulatorThread, api: Api
):
    sim.cause(accidents.node_down, node="pve2")
    answer = api.get("/nodes/pve2/qemu")
    assert (answer.status, answer.body) == (595, "")
    nodes = {row["node"]: row["status"] for row in api.get("/nodes").data}
    assert nodes == {"pve": "online", "pve2": "offline", "pve3": "online"}
    assert rows(api)[101]["name"] == "db-01"


def test_a_node_silent_for_five_minutes_strips_its_guests(sim: SimulatorThread, api: Api):
    sim.cause(accidents.node_down, node="pve2")
    sim.cause(accidents.age_silence, node="pve2", seconds=301)
    assert rows(api)[101] == {
        "id": "qemu/101",
        "type": "qemu",
        "vmid": 101,
        "node": "pve2",
        "status": "unknown",
    }
    sim.cause(accidents.node_up, node="pve2")
    sim.wait_for(lambda live: '"stopped"' in live.cache.guest_json(live.world.guests[101]))
    assert rows(api)[101]["name"] == "db-01"


def test_ten_thousand_guests_fit():
    nodes = tuple(f"node{number}" for number in range(20))
    with SimulatorThread(vms=10_000, nodes=nodes) as sim:
        api = Api(sim)
        assert len(rows(api)) == 10_003
        assert api.get("/cluster/nextid").data == "10103"
