from __future__ import annotations

from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from pve_simulator.world import MIB, HaResource
from tests.simulator.client import Api

VM = "/nodes/pve/qemu/100"
STOPPED = "/nodes/pve3/qemu/102"


def state(api: Api, path: str) -> tuple[str, str]:
    row = api.get(f"{path}/status/current").data
    return row["status"], row["qmpstatus"]


def test_a_start_of_a_running_vm_fails_in_the_task(api: Api):
    assert api.done(api.post(f"{VM}/status/start")) == "VM 100 already running"


def test_a_paused_vm_is_running_by_status(api: Api):
    assert api.done(api.post(f"{VM}/status/suspend")) == "OK"
    assert state(api, VM) == ("running", "paused")
    assert api.done(api.post(f"{VM}/status/resume")) == "OK"
    assert state(api, VM) == ("running", "running")


def test_a_paused_vm_cannot_be_shut_down(api: Api):
    api.done(api.post(f"{VM}/status/suspend"))
    assert api.post(f"{VM}/status/shutdown").reason == "VM is paused - cannot shutdown"
    assert api.done(api.post(f"{VM}/status/shutdown", forceStop=1)) == "OK"
    assert state(api, VM) == ("stopped", "stopped")


def test_a_stopped_vm_refuses_reboot_suspend_and_resume_at_once(api: Api):
    for action in ("reboot", "suspend", "resume", "reset"):
        answer = api.post(f"{STOPPED}/status/{action}")
        assert (answer.status, answer.reason) == (500, "VM 102 not running"), action


def test_a_reboot_is_over_before_the_vm_is_up(sim: SimulatorThread, api: Api):
    assert api.done(api.post(f"{VM}/status/reboot")) == "OK"
    assert state(api, VM)[0] == "stopped"
    sim.wait_for(lambda live: live.world.guests[100].is_running, what="the second half")
    started = [record for record in sim.tasks("qmstart") if record.id == "100"]
    assert [record.user for record in started] == ["root@pam"]


def test_a_reboot_applies_pending_values(sim: SimulatorThread, api: Api):
    api.put(f"{VM}/config", memory=3000)
    assert api.get(f"{VM}/config", current=1).data["memory"] == "1024"
    assert api.get(f"{VM}/config").data["memory"] == "3000"
    api.done(api.post(f"{VM}/status/reboot"))
    sim.wait_for(lambda live: live.world.guests[100].is_running, what="the second half")
    assert api.get(f"{VM}/config", current=1).data["memory"] == "3000"


def test_shutting_down_with_a_dead_agent_takes_its_time_and_still_works(
    sim: SimulatorThread, api: Api
):
    sim.cause(accidents.agent_dead, vmid=100)
    upid = api.post(f"{VM}/status/shutdown", timeout=30).data
    assert api.task(upid)["exitstatus"] == "OK"
    assert api.log(upid)[0].startswith("QEMU Guest Agent is not running")


def test_a_guest_that_ignores_the_shutdown_makes_it_fail(sim: SimulatorThread, api: Api):
    sim.cause(accidents.deaf_guest, vmid=100)
    status = api.done(api.post(f"{VM}/status/shutdown", timeout=5))
    assert status == "VM quit/powerdown failed - got timeout"
    assert api.done(api.post(f"{VM}/status/shutdown", timeout=5, forceStop=1)) == "OK"


def test_the_agent_comes_up_seconds_after_the_boot(sim: SimulatorThread, api: Api):
    assert api.done(api.post(f"{STOPPED}/status/start")) == "OK"
    path = f"{STOPPED}/agent/network-get-interfaces"
    assert api.get(path).reason == "QEMU guest agent is not running"
    sim.wait_for(lambda live: live.clock.elapsed(live.world.guests[102].os_started_at) > 13)
    names = [row["name"] for row in api.get(path).data["result"]]
    assert names == ["lo", "eth0"]


def test_the_agent_tells_the_address_that_cloud_init_set(sim: SimulatorThread, api: Api):
    api.put(f"{STOPPED}/config", ipconfig0="ip=10.20.30.40/24,gw=10.20.30.1")
    api.done(api.post(f"{STOPPED}/status/start"))
    sim.wait_for(lambda live: live.clock.elapsed(live.world.guests[102].os_started_at) > 13)
    eth0 = api.get(f"{STOPPED}/agent/network-get-interfaces").data["result"][1]
    mac = api.get(f"{STOPPED}/config").data["net0"].split("=")[1].split(",")[0]
    assert eth0["hardware-address"] == mac.lower()
    assert eth0["ip-addresses"][0] == {
        "ip-address": "10.20.30.40",
        "ip-address-type": "ipv4",
        "prefix": 24,
    }


def test_suspended_to_disk_is_stopped_with_a_lock(api: Api):
    assert api.done(api.post(f"{VM}/status/suspend", todisk=1)) == "OK"
    row = api.get(f"{VM}/status/current").data
    assert (row["status"], row["lock"]) == ("stopped", "suspended")
    assert api.done(api.post(f"{VM}/status/start")) == "OK"
    assert "lock" not in api.get(f"{VM}/status/current").data


def test_an_unknown_bridge_is_found_at_the_start_only(api: Api):
    assert api.put(f"{STOPPED}/config", net0="virtio,bridge=vmbr99").status == 200
    upid = api.post(f"{STOPPED}/status/start").data
    assert api.task(upid)["exitstatus"] == "start failed: QEMU exited with code 1"
    assert api.log(upid)[-3:-2] == ["generating cloud-init ISO"] or "bridge 'vmbr99'" in str(
        api.log(upid)
    )


def test_a_locked_running_vm_refuses_to_stop(sim: SimulatorThread, api: Api):
    sim.cause(accidents.set_lock, vmid=100, lock="backup")
    assert api.done(api.post(f"{VM}/status/stop")) == "VM is locked (backup)"
    assert api.done(api.post(f"{VM}/status/shutdown")) == "VM is locked (backup)"


def test_ha_only_takes_a_request_to_start(sim: SimulatorThread, api: Api):
    def manage(live) -> None:
        live.world.ha[102] = HaResource(102, state="stopped")

    sim.change(manage)
    upid = api.post(f"{STOPPED}/status/start").data
    assert ":hastart:102:" in upid
    assert api.task(upid)["exitstatus"] == "OK"
    assert state(api, STOPPED)[0] == "stopped"
    sim.wait_for(lambda live: live.world.guests[102].is_running, what="the HA manager")
    assert api.get(f"{STOPPED}/status/current").data["ha"] == {"managed": 1, "state": "started"}


def test_ha_resources_are_made_and_removed_by_the_api(api: Api):
    assert api.post("/cluster/ha/resources", sid="vm:102", state="stopped").status == 200
    assert api.get("/cluster/ha/resources/vm:102").data["state"] == "stopped"
    assert api.delete(STOPPED).reason.startswith("unable to remove VM 102 - used in HA resources")
    assert api.delete("/cluster/ha/resources/vm:102").status == 200
    assert api.get("/cluster/ha/resources").data == []


def test_a_guest_larger_than_its_node_does_not_start(sim: SimulatorThread, api: Api):
    node_mib = sim.world.nodes["pve3"].memory // MIB
    api.put(f"{STOPPED}/config", memory=node_mib + 1)
    upid = api.post(f"{STOPPED}/status/start").data
    assert api.task(upid)["exitstatus"] == "start failed: QEMU exited with code 1"
    assert "kvm: cannot set up guest memory 'pc.ram': Cannot allocate memory" in api.log(upid)
    assert state(api, STOPPED) == ("stopped", "stopped")
    api.put(f"{STOPPED}/config", memory=node_mib, cores=17)
    upid = api.post(f"{STOPPED}/status/start").data
    assert api.task(upid)["exitstatus"] == "MAX 16 vcpus allowed per VM on this node"
    api.put(f"{STOPPED}/config", cores=16)
    assert api.done(api.post(f"{STOPPED}/status/start")) == "OK"


def test_guests_may_be_promised_more_than_the_node_has(sim: SimulatorThread, api: Api):
    node_mib = sim.world.nodes["pve3"].memory // MIB
    for vmid in (300, 301):
        made = api.post("/nodes/pve3/qemu", vmid=vmid, memory=node_mib * 3 // 4)
        assert api.done(made) == "OK"
        assert api.done(api.post(f"/nodes/pve3/qemu/{vmid}/status/start")) == "OK"
    memory = api.get("/nodes/pve3/status").data["memory"]
    assert memory["used"] + memory["free"] == memory["total"]
    assert 0 < memory["used"] < memory["total"]
