from __future__ import annotations

import threading

from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api

CLONE = "/nodes/pve/qemu/9000/clone"


def slow_ceph(sim: SimulatorThread, mib_per_s: float = 150) -> None:
    sim.cause(accidents.storage_speed, storage="ceph", mib_per_s=mib_per_s)


def wait_for_target(sim: SimulatorThread, vmid: int) -> None:
    sim.wait_for(lambda live: vmid in live.world.guests, what=f"VM {vmid}")


def test_the_target_is_there_at_once_locked_and_without_its_description(
    sim: SimulatorThread, api: Api
):
    # Time to see it in: the first drive takes nearly a second to allocate.
    sim.cause(accidents.storage_slow, storage="ceph", allocate_s=20)
    upid = api.post(CLONE, newid=200, full=1, name="mine", description="hello").data
    wait_for_target(sim, 200)
    early = sim.guest(200)
    assert early is not None
    assert early.config == {"lock": "clone", "description": " qmclone temporary file"}
    assert api.task(upid)["exitstatus"] == "OK"
    config = api.get("/nodes/pve/qemu/200/config").data
    assert (config["name"], config["description"]) == ("mine", "hello")
    assert "lock" not in config


def test_a_clone_without_a_description_keeps_its_sources(api: Api):
    api.put("/nodes/pve/qemu/9000/config", description="the template's")
    assert api.done(api.post(CLONE, newid=200)) == "OK"
    config = api.get("/nodes/pve/qemu/200/config").data
    assert config["description"] == "the template's"
    assert config["name"] == "Copy-of-VM-ubuntu-22.04"


def test_each_clone_has_an_identity_of_its_own_and_keeps_cloud_init(api: Api):
    api.put("/nodes/pve/qemu/9000/config", ciuser="admin", ipconfig0="ip=10.9.9.9/24")
    for newid in (200, 201):
        assert api.done(api.post(CLONE, newid=newid)) == "OK"
    vms = [api.get(f"/nodes/pve/qemu/{vmid}/config").data for vmid in (9000, 200, 201)]
    for key in ("smbios1", "vmgenid", "net0"):
        assert len({vm[key] for vm in vms}) == 3, key
    assert {vm["ciuser"] for vm in vms} == {"admin"}
    assert {vm["ipconfig0"] for vm in vms} == {"ip=10.9.9.9/24"}


def test_a_template_is_linked_unless_full_is_asked_for(api: Api):
    assert api.done(api.post(CLONE, newid=200)) == "OK"
    assert api.done(api.post(CLONE, newid=201, full=1)) == "OK"
    linked = api.get("/nodes/pve/qemu/200/config").data["scsi0"]
    full = api.get("/nodes/pve/qemu/201/config").data["scsi0"]
    assert linked.startswith("ceph:base-9000-disk-0/vm-200-disk-0,")
    assert full.startswith("ceph:vm-201-disk-0,")


def test_a_linked_clone_refuses_a_storage(api: Api):
    answer = api.post(CLONE, newid=200, storage="local-lvm")
    assert answer.reason == "parameter 'storage' not allowed for linked clones"


def test_linked_clones_of_lvmthin_do_not_hold_their_base(api: Api):
    assert api.done(api.post("/nodes/pve2/qemu/9002/clone", newid=200)) == "OK"
    assert api.get("/nodes/pve2/qemu/200/config").data["scsi0"].startswith("local-lvm:vm-200-")
    assert api.done(api.delete("/nodes/pve2/qemu/9002")) == "OK"


def test_a_template_with_linked_clones_cannot_be_deleted(api: Api):
    assert api.done(api.post(CLONE, newid=200)) == "OK"
    status = api.done(api.delete("/nodes/pve/qemu/9000"))
    assert status == "base volume 'ceph:base-9000-disk-0' is still in use by linked cloned"
    assert api.get("/nodes/pve/qemu/9000/config").status == 200
    assert api.done(api.delete("/nodes/pve/qemu/200")) == "OK"
    assert api.done(api.delete("/nodes/pve/qemu/9000")) == "OK"


def test_a_clone_on_shared_disks_may_go_to_another_node(api: Api):
    assert api.done(api.post(CLONE, newid=200, full=1, target="pve3")) == "OK"
    assert api.get("/nodes/pve3/qemu/200/status/current").status == 200
    assert api.get("/nodes/pve/qemu/200/status/current").status == 500


def test_a_clone_from_local_disks_may_not(api: Api):
    answer = api.post("/nodes/pve2/qemu/9002/clone", newid=200, full=1, target="pve")
    assert answer.status == 500
    assert "local storage" in answer.reason


def both(api: Api, path: str, **params: object) -> list[str]:
    """The same call twice at the same time; the UPIDs."""
    answers: list[str] = []
    barrier = threading.Barrier(2)

    def send() -> None:
        barrier.wait()
        answers.append(api.post(path, **params).data)

    threads = [threading.Thread(target=send) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def test_of_two_clones_to_one_number_both_are_accepted_and_one_wins(api: Api):
    ends = [api.task(upid)["exitstatus"] for upid in both(api, CLONE, newid=200)]
    assert sorted(ends) == ["OK", "unable to create VM 200: config file already exists"]
    assert api.get("/nodes/pve/qemu/200/status/current").status == 200


def test_the_loser_of_a_long_clone_does_not_get_the_lock(sim: SimulatorThread, api: Api):
    slow_ceph(sim)
    ends = [api.task(upid)["exitstatus"] for upid in both(api, CLONE, newid=200, full=1)]
    lock = "/var/lock/qemu-server/lock-200.conf"
    assert sorted(ends) == ["OK", f"can't lock file '{lock}' - got timeout"]


def test_a_template_being_cloned_cannot_be_configured(sim: SimulatorThread, api: Api):
    slow_ceph(sim, 100)
    upid = api.post(CLONE, newid=200, full=1).data
    wait_for_target(sim, 200)
    answer = api.put("/nodes/pve/qemu/9000/config", description="x")
    assert answer.reason == "can't lock file '/var/lock/qemu-server/lock-9000.conf' - got timeout"
    assert api.task(upid)["exitstatus"] == "OK"


def test_an_aborted_clone_leaves_nothing(sim: SimulatorThread, api: Api):
    slow_ceph(sim)
    upid = api.post(CLONE, newid=200, full=1).data
    sim.wait_for(lambda live: copying(live, upid), what="the copy")
    assert api.delete(f"/nodes/pve/tasks/{upid}").status == 200
    assert api.task(upid)["exitstatus"].endswith("failed: interrupted by signal")
    assert sim.guest(200) is None
    assert not [volid for volid in volumes_of(sim, "ceph") if "-200-" in volid]


def copying(live: Simulator, upid: str) -> bool:
    return any("transferred" in line for line in live.world.tasks[upid].log)


def volumes_of(sim: SimulatorThread, storage: str) -> list[str]:
    return list(sim.world.volumes[(storage, "")])


def test_a_killed_clone_leaves_its_lock_and_its_number_is_used(sim: SimulatorThread, api: Api):
    slow_ceph(sim)
    upid = api.post(CLONE, newid=108, full=1).data
    sim.wait_for(lambda live: copying(live, upid), what="the copy")
    assert sim.cause(accidents.kill_task, upid=upid)
    assert api.task(upid)["exitstatus"] == "unexpected status"
    assert api.get("/nodes/pve/qemu/108/config").data["lock"] == "clone"
    assert api.done(api.delete("/nodes/pve/qemu/108")) == "VM is locked (clone)"
    assert api.get("/cluster/nextid").data == "109"


def test_progress_in_the_log_ends_with_everything(api: Api):
    upid = api.post(CLONE, newid=200, full=1).data
    api.task(upid)
    progress = [line for line in api.log(upid) if line.startswith("transferred")]
    assert progress[0] == "transferred 0.0 B of 2.2 GiB (0.00%)"
    assert progress[-1] == "transferred 2.2 GiB of 2.2 GiB (100.00%)"


def test_parallel_clones_share_the_storages_speed(sim: SimulatorThread, api: Api):
    def duration(upid: str) -> float:
        return sim.change(lambda live: live.clock.elapsed(ends[upid]))

    ends: dict[str, float] = {}
    started = sim.change(lambda live: live.clock.now())
    ends["start"] = started
    upid = api.post(CLONE, newid=200, full=1).data
    api.task(upid)
    alone_s = duration("start")
    ends["start"] = sim.change(lambda live: live.clock.now())
    upids = [api.post(CLONE, newid=201 + i, full=1).data for i in range(3)]
    assert {api.task(upid)["exitstatus"] for upid in upids} == {"OK"}
    assert duration("start") > alone_s * 1.5


def test_a_clone_that_finds_no_space_fails_and_is_removed(sim: SimulatorThread, api: Api):
    sim.cause(accidents.storage_full, storage="ceph", free_bytes=500 * 1024**2)
    status = api.done(api.post(CLONE, newid=200, full=1))
    assert status.startswith("clone failed: ")
    assert "No space left on device" in status
    assert sim.guest(200) is None


def test_an_aborted_clone_whose_clean_up_is_slow_is_killed_and_leaves_its_lock(
    sim: SimulatorThread, api: Api
):
    slow_ceph(sim)
    sim.cause(accidents.storage_slow, storage="ceph", free_s=60)
    upid = api.post(CLONE, newid=200, full=1).data
    sim.wait_for(lambda live: copying(live, upid), what="the copy")
    assert api.delete(f"/nodes/pve/tasks/{upid}").status == 200
    assert api.task(upid)["exitstatus"] == "unexpected status"
    assert api.get("/nodes/pve/qemu/200/config").data["lock"] == "clone"
