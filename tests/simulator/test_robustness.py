from __future__ import annotations

import random
import re
from urllib.parse import quote

from pve_simulator import routing, schema
from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api

PATH_VALUES = {
    "node": ["pve", "pve2", "nope"],
    "vmid": ["100", "102", "9000", "999"],
    "storage": ["local", "ceph", "nope"],
    "volume": ["local:iso/x.iso", "ceph:vm-100-disk-0", "x"],
    "upid": ["UPID:nonsense", "UPID:pve:00000001:00000001:6B000000:qmstart:101:root@pam:"],
    "snapname": ["one", "current"],
    "userid": ["root@pam", "x@pve"],
    "tokenid": ["izvor", "nope"],
    "sid": ["vm:100", "vm:x", "100"],
    "poolid": ["p1", "none"],
}
ODD_VALUES = [
    "",
    "0",
    "1",
    "-1",
    "x",
    "x,y=z",
    "local:1",
    "none,media=cdrom",
    "ä\n",
    "9" * 30,
    "%41",
]
WORLD_CHANGING = ("/access/acl", "/access/users", "DELETE /access")


def guesses(facts: dict[str, object], rng: random.Random) -> str:
    enum = facts.get("enum")
    if isinstance(enum, list) and rng.random() < 0.6:
        return str(rng.choice(enum))
    if facts.get("t") in ("i", "b") and rng.random() < 0.7:
        return rng.choice(["0", "1", "200", "5000"])
    return rng.choice(ODD_VALUES)


def test_every_path_answers_nonsense_with_proxmox_like_errors(sim: SimulatorThread, api: Api):
    rng = random.Random(7)
    for key in routing.all_routes():
        if any(key.endswith(part) or part in key for part in WORLD_CHANGING):
            continue
        method, pattern = key.split(" ", 1)
        for _ in range(4):
            path = re.sub(
                r"\{(\w+)\}", lambda m: quote(rng.choice(PATH_VALUES[m.group(1)]), safe=""), pattern
            )
            known = schema.parameters_of(key) or {}
            params = {
                name.replace("[n]", "0"): guesses(facts, rng)
                for name, facts in known.items()
                if name not in PATH_VALUES and (facts.get("r") or rng.random() < 0.15)
            }
            answer = api.call(method, path, params)
            assert answer.status in (200, 400, 401, 403, 500, 501, 595), (key, answer)
            assert "simulator bug" not in answer.reason, (key, path, params, answer.reason)
    for record in sim.tasks():
        assert "simulator bug" not in str(record.exitstatus), record
    assert api.get("/version").status == 200


def test_every_served_path_has_its_parameter_facts():
    missing = [key for key in routing.all_routes() if schema.parameters_of(key) is None]
    assert missing == []
