from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path

import pytest

from pve_simulator import accidents, drives, encoding, persistence
from pve_simulator.demo import build_world
from pve_simulator.errors import PveError
from pve_simulator.options import Options
from pve_simulator.persistence import StateError
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from pve_simulator.world import Snapshot, TaskRecord, World
from tests.simulator.client import Api


def test_a_world_read_back_is_the_same(tmp_path: Path):
    with SimulatorThread(speed=20, state_dir=tmp_path) as sim:
        api = Api(sim)
        api.done(api.post("/nodes/pve3/qemu/102/snapshot", snapname="one"))
        api.put("/nodes/pve/qemu/100/config", memory=4096)
        api.post("/access/users", userid="me@pve", password="secret-enough")
        api.put("/access/acl", path="/vms/100", roles="PVEVMUser", users="me@pve")
        sim.cause(accidents.storage_offline, storage="ceph", node="pve2")
        before, users = sim.world, sim.change(lambda live: dict(live.access.users))
    with SimulatorThread(speed=20, state_dir=tmp_path) as sim:
        assert sim.world == before
        assert sim.change(lambda live: dict(live.access.users)) == users
        assert sim.change(lambda live: [entry.ugid for entry in live.access.acl]) == ["me@pve"]


def test_a_ticket_stays_good_over_a_restart(tmp_path: Path):
    with SimulatorThread(state_dir=tmp_path) as sim:
        ticket = sim.change(lambda live: live.access.ticket("root@pam"))
    with SimulatorThread(state_dir=tmp_path) as sim:
        assert sim.change(lambda live: live.access.identify_ticket(ticket).is_root)


def test_a_field_that_a_later_version_dropped_is_passed_over(tmp_path: Path):
    with SimulatorThread(state_dir=tmp_path):
        pass
    file = tmp_path / persistence.STATE_FILE
    state = json.loads(file.read_text())
    state["world"]["guests"]["100"]["nosuch"] = 1
    file.write_text(json.dumps(state))
    with SimulatorThread(state_dir=tmp_path) as sim:
        assert sim.guest(100) is not None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"layout": 99}', '{"layout": 1, "world": {}}'])
def test_a_state_that_is_none_is_refused_with_a_sentence(tmp_path: Path, text: str):
    (tmp_path / persistence.STATE_FILE).write_text(text)
    with pytest.raises(StateError, match="is damaged"):
        Simulator(Options(state_dir=tmp_path))


def test_every_part_of_the_world_survives_json():
    world = build_world(Options(vms=20), random.Random(1), 1_800_000_000.0)
    text = json.dumps(encoding.encode(world))
    assert encoding.decode(World, json.loads(text)) == world


def identities(sim: SimulatorThread) -> list[str]:
    """What must never be the same twice: MACs, uuids and generation ids of all guests."""
    found = []
    for guest in sim.guests().values():
        config = guest.config
        found += [drives.parse_net(config["net0"]).mac, config["smbios1"], config["vmgenid"]]
    return [str(value) for value in found]


def test_what_is_made_after_a_restart_repeats_nothing(tmp_path: Path):
    upids: list[str] = []
    for run in range(3):
        with SimulatorThread(speed=20, state_dir=tmp_path) as sim:
            api = Api(sim)
            made = [api.post("/nodes/pve/qemu/9000/clone", newid=200 + run).data]
            made.append(api.post("/nodes/pve/qemu", vmid=300 + run, net0="virtio").data)
            assert [api.task(upid)["exitstatus"] for upid in made] == ["OK", "OK"]
            upids += made
            seen = identities(sim)
            pids = [record.pid for record in sim.tasks()]
    assert len(seen) == len(set(seen)) == 3 * (11 + 6)
    assert len(upids) == len(set(upids)) == len(set(pids)) == 6


def test_a_state_of_before_the_generator_was_kept_repeats_nothing_either(tmp_path: Path):
    with SimulatorThread(speed=20, state_dir=tmp_path) as sim:
        assert Api(sim).done(Api(sim).post("/nodes/pve/qemu/9000/clone", newid=200)) == "OK"
    file = tmp_path / persistence.STATE_FILE
    state = json.loads(file.read_text())
    del state["generator"]
    file.write_text(json.dumps(state))
    with SimulatorThread(speed=20, state_dir=tmp_path) as sim:
        assert Api(sim).done(Api(sim).post("/nodes/pve/qemu/9000/clone", newid=201)) == "OK"
        seen = identities(sim)
    assert len(seen) == len(set(seen))


def test_no_two_of_ten_thousand_guests_share_a_mac():
    world = build_world(Options(vms=10_000), random.Random(1), 1_800_000_000.0)
    macs = {drives.parse_net(guest.config["net0"]).mac for guest in world.guests.values()}
    assert len(macs) == 10_003


def test_expired_tickets_stay_expired_over_a_restart(tmp_path: Path):
    with SimulatorThread(state_dir=tmp_path) as sim:
        ticket = sim.change(lambda live: live.access.ticket("root@pam"))
        sim.cause(accidents.expire_tickets)
    with SimulatorThread(state_dir=tmp_path) as sim, pytest.raises(PveError):
        sim.change(lambda live: live.access.identify_ticket(ticket))


def test_the_same_seed_and_calls_give_the_same_identities_and_passwords():
    def run(seed: int) -> tuple[list[str], str]:
        with SimulatorThread(speed=20, seed=seed) as sim:
            api = Api(sim)
            assert api.done(api.post("/nodes/pve/qemu/9000/clone", newid=200)) == "OK"
            asked = {"websocket": 1, "generate-password": 1}
            proxy = api.post("/nodes/pve/qemu/100/vncproxy", **asked).data
            return identities(sim), proxy["password"]

    first = run(7)
    assert run(7) == first
    assert set(run(8)[0]).isdisjoint(first[0])


def test_a_run_begins_at_the_moment_it_is_told(tmp_path: Path):
    moment = 1_800_000_000
    with SimulatorThread(speed=20, clock=moment, state_dir=tmp_path) as sim:
        api = Api(sim)
        assert 0 <= api.get("/nodes/pve/time").data["time"] - moment < 30
        upid = api.post("/nodes/pve/qemu/9000/clone", newid=200).data
        assert 0 <= int(upid.split(":")[4], 16) - moment < 30
        assert api.task(upid)["exitstatus"] == "OK"
        made = drives.property_fields(str(api.get("/nodes/pve/qemu/100/config").data["meta"]))
        assert int(made["ctime"]) < moment
    with SimulatorThread(speed=20, state_dir=tmp_path) as sim:
        assert 0 <= Api(sim).get("/nodes/pve/time").data["time"] - moment < 60


def test_the_saved_text_is_that_of_one_moment(tmp_path: Path):
    sim = Simulator(Options(vms=200, state_dir=tmp_path))
    pieces = persistence.Moment(sim).pieces()
    text = next(pieces)
    before = encoding.encode(sim.world)
    for guest in sim.world.guests.values():
        guest.config["memory"] = "1"
        guest.snapshots["late"] = Snapshot("late", {}, 1, "", None, has_ram=False)
    sim.world.volumes[("ceph", "")].clear()
    sim.world.tasks["late"] = TaskRecord("late", "pve", 1, 1, 1, "qmstart", "1", "root@pam")
    assert json.loads(text + b"".join(pieces))["world"] == json.loads(json.dumps(before))
    assert sim.persistence is not None
    sim.persistence.release()


def test_a_save_overtaken_by_a_later_one_is_not_written(tmp_path: Path):
    sim = Simulator(Options(vms=20, state_dir=tmp_path))
    assert sim.persistence is not None

    async def overtake(live: persistence.Persistence) -> None:
        slow = asyncio.get_running_loop().create_task(live.save_beside(sim))
        await asyncio.sleep(0)  # it has taken its copy and rests
        sim.world.guests[100].config["memory"] = "4096"
        live.save(sim)
        await slow

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(persistence, "SLICE_S", 0.0)
        asyncio.run(overtake(sim.persistence))
    sim.persistence.release()
    state = json.loads((tmp_path / persistence.STATE_FILE).read_text())
    assert state["world"]["guests"]["100"]["config"]["memory"] == "4096"


def test_answers_do_not_wait_for_a_large_save(tmp_path: Path):
    """Were it in one piece, these three thousand guests would block for a third of a second."""
    with SimulatorThread(vms=3000, state_dir=tmp_path) as sim:
        file = tmp_path / persistence.STATE_FILE
        first = file.stat().st_mtime_ns
        answered = 0
        deadline = time.monotonic() + 20
        sim.change(lambda live: live.world.guests[100].config.update(memory="4096"))
        while file.stat().st_mtime_ns == first:
            assert time.monotonic() < deadline
            sim.change(lambda live: live.world.guests[100].lock)
            answered += 1
    assert answered > 3


def test_at_a_stop_tasks_are_interrupted_and_undo_what_they_had_begun(tmp_path: Path):
    with SimulatorThread(state_dir=tmp_path) as sim:
        api = Api(sim)
        upid = api.post("/nodes/pve/qemu/9000/clone", newid=201, full=1, bwlimit=1).data
        sim.wait_for(lambda live: 201 in live.world.guests, what="the clone")
    with SimulatorThread(state_dir=tmp_path) as sim:
        assert sim.guest(201) is None
        assert Api(sim).task(upid)["exitstatus"] == "received interrupt"
