from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from pve_simulator import accidents, persistence
from pve_simulator.demo import build_world
from pve_simulator.options import Options
from pve_simulator.persistence import StateError
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from pve_simulator.world import World
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
    world = build_world(Options(vms=20), random.Random(1))
    text = json.dumps(persistence.encode(world))
    assert persistence.decode(World, json.loads(text)) == world
