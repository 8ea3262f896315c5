"""What the other files leave: config's guards, snapshots with RAM, task lists, series, HA."""

from __future__ import annotations

import time
from itertools import pairwise

from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from pve_simulator.world import HaResource
from tests.simulator.client import Api
from tests.simulator.conftest import SPEED

VM = "/nodes/pve/qemu/100"
STOPPED = "/nodes/pve3/qemu/102"


def test_a_change_on_top_of_an_old_config_is_refused(api: Api):
    old = api.get(f"{VM}/config").data["digest"]
    assert api.put(f"{VM}/config", description="one", digest=old).status == 200
    refused = api.put(f"{VM}/config", description="two", digest=old)
    text = "checksum mismatch (file change by other user?)"
    assert (refused.status, refused.reason) == (500, text)
    assert api.get(f"{VM}/config").data["description"] == "one"


def test_pending_has_the_value_of_now_and_that_of_the_next_start(api: Api):
    api.put(f"{VM}/config", memory=3000)
    rows = {row["key"]: row for row in api.get(f"{VM}/pending").data}
    assert (rows["memory"]["value"], rows["memory"]["pending"]) == ("1024", "3000")


def test_tags_are_lower_cased_split_and_sorted(api: Api):
    api.put(f"{VM}/config", tags="Zeta,alpha;beta")
    assert api.get(f"{VM}/config").data["tags"] == "alpha;beta;zeta"


def test_a_protected_vm_is_not_deleted(api: Api):
    api.put(f"{STOPPED}/config", protection=1)
    refused = api.delete(STOPPED)
    assert refused.reason == "can't remove VM 102 - protection mode enabled"
    api.put(f"{STOPPED}/config", protection=0)
    assert api.done(api.delete(STOPPED)) == "OK"


def test_a_rollback_to_ram_leaves_the_vm_running_and_one_without_leaves_it_off(api: Api):
    assert api.done(api.post(f"{VM}/snapshot", snapname="disk")) == "OK"
    assert api.done(api.post(f"{VM}/snapshot", snapname="ram", vmstate=1)) == "OK"
    rows = {row["name"]: row for row in api.get(f"{VM}/snapshot").data}
    assert (rows["disk"]["vmstate"], rows["ram"]["vmstate"]) == (0, 1)
    assert (rows["ram"]["parent"], rows["current"]["parent"]) == ("disk", "ram")
    assert api.done(api.post(f"{VM}/snapshot/ram/rollback")) == "OK"
    assert api.get(f"{VM}/status/current").data["status"] == "running"
    assert api.done(api.post(f"{VM}/snapshot/disk/rollback")) == "OK"
    assert api.get(f"{VM}/status/current").data["status"] == "stopped"


def test_the_cloud_init_drive_is_written_at_the_start(api: Api):
    api.put(f"{STOPPED}/config", ciuser="someone", ipconfig0="ip=10.9.0.5/24,gw=10.9.0.1")
    assert api.done(api.post(f"{STOPPED}/status/start")) == "OK"
    assert "user: someone" in api.get(f"{STOPPED}/cloudinit/dump", type="user").data
    assert "10.9.0.5" in api.get(f"{STOPPED}/cloudinit/dump", type="network").data


def test_a_locked_file_is_waited_for_ten_seconds(sim: SimulatorThread, api: Api):
    sim.cause(accidents.storage_speed, storage="ceph", mib_per_s=1)
    clone = api.post("/nodes/pve/qemu/9000/clone", newid=200, full=1).data
    sim.wait_for(lambda live: live.locks.holders(9000) == "shared", what="the clone's lock")
    began = time.monotonic()
    refused = api.put("/nodes/pve/qemu/9000/config", description="x")
    waited_s = (time.monotonic() - began) * SPEED
    text = "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout"
    assert (refused.status, refused.reason) == (500, text)
    assert waited_s >= 10
    sim.cause(accidents.kill_task, upid=clone)


def test_an_allocation_may_hold_a_shared_storage_for_a_minute(sim: SimulatorThread, api: Api):
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=61.0)
    status = api.done(api.post("/nodes/pve/qemu", vmid=300, scsi0="ceph:1"))
    assert "got lock timeout - aborting command" in status


def test_the_clusters_task_list_is_cut_and_the_nodes_is_not(api: Api):
    upids = [api.post("/nodes/pve2/qemu/101/status/start").data for _ in range(30)]
    for upid in upids:
        api.task(upid)
    assert len(api.get("/cluster/tasks").data) == 25
    archive = "/nodes/pve2/tasks"
    assert [row["upid"] for row in api.get(archive).data] == upids[::-1]
    assert len(api.get(archive, limit=7).data) == 7
    assert api.get(archive, limit=0).data == []
    assert api.get(archive, source="active").data == []
    assert len(api.get(archive, errors=1).data) == 30
    assert api.get("/nodes/pve/tasks").data == []


def test_series_end_now_and_know_only_what_was(api: Api):
    rows = api.get(f"{VM}/rrddata", timeframe="hour", cf="AVERAGE").data
    assert len(rows) == 70
    assert 0 <= time.time() - rows[-1]["time"] < 60
    assert {later["time"] - row["time"] for row, later in pairwise(rows)} == {60}
    assert 0 < rows[-1]["mem"] < rows[-1]["maxmem"]
    off = api.get(f"{STOPPED}/rrddata", timeframe="hour", cf="AVERAGE").data[-1]
    assert "mem" not in off
    assert off["maxmem"] > 0


def test_ha_only_takes_a_request_to_stop_and_to_move(sim: SimulatorThread, api: Api):
    def manage(live) -> None:
        live.world.ha[101] = HaResource(101)

    sim.change(manage)
    moved = api.post("/nodes/pve2/qemu/101/migrate", target="pve", online=1)
    assert ":hamigrate:101:" in moved.data
    assert api.done(moved) == "OK"
    assert api.get("/nodes/pve2/qemu/101/status/current").status == 200
    sim.wait_for(lambda live: live.world.guests[101].node == "pve", what="the HA manager")
    sim.wait_for(lambda live: not list(live.tasks.running()), what="the migration's end")
    stopped = api.post("/nodes/pve/qemu/101/status/stop")
    assert ":hastop:101:" in stopped.data
    assert api.done(stopped) == "OK"
    assert api.get("/nodes/pve/qemu/101/status/current").data["status"] == "running"
    sim.wait_for(lambda live: not live.world.guests[101].is_running, what="the HA manager")
