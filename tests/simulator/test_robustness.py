from __future__ import annotations

import http.client
import random
import re
import socket
import ssl
from collections import Counter
from urllib.parse import quote

import pytest

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


METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"]
SEGMENTS = [
    *("nodes", "pve", "qemu", "100", "9000", "status", "start", "current", "config", "clone"),
    *("snapshot", "cluster", "resources", "access", "ticket", "storage", "local", "content"),
    *("tasks", "UPID:x", "log", "%00", "%ff", "..", ".", "", "ä", "a" * 3000, "{vmid}", "sim"),
]
BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"vmid":{"a":[1]}}',
    b'{"newid":1e999}',
    b'"' + b"\\ud800" + b'"',
    b"newid=200&newid=201",
    b"a=b=c&&&=;%zz&%",
    b"\xff\xfe\x00" * 50,
    b"x" * (600 * 1024),
    b"[" * 5000,
    b'--b\r\nContent-Disposition: form-data; name="filename"; filename="x.iso"\r\n\r\nabc',
    b"--b\r\n\r\n--b--",
]
TYPES = [
    "application/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=b",
    "multipart/form-data",
    "text/plain; charset=nosuch",
    "nonsense",
]
NOISY_HEADERS = [
    {},
    {"Authorization": "PVEAPIToken=" + "=" * 40},
    {"Authorization": "Basic %%%"},
    {"Cookie": "PVEAuthCookie=PVE:root@pam:FFFFFFFF::x"},
    {"Cookie": "PVEAuthCookie=%ff%00; ;;="},
    {"Range": "bytes=9-1"},
]


def test_random_requests_never_bring_it_down(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    """Any method, path, body and header; whatever is answered is HTTP and of Proxmox's statuses."""
    rng = random.Random(11)
    answers: Counter[int | None] = Counter()
    known = {200, 301, 400, 401, 403, 404, 405, 500, 501, 595}
    with SimulatorThread(speed=1000, has_fault_api=True) as sim:
        api = Api(sim)
        for number in range(400):
            method = rng.choice(METHODS)
            prefix = rng.choice(["/api2/json", "/api2/json", "/api2/extjs", "/api2/html", "", "/"])
            path = "/".join(rng.choices(SEGMENTS, k=rng.randrange(7)))
            target = quote(f"{prefix}/{path}?{rng.choice(['', 'a', '=&=', 'type=%ff'])}", "/?=&%")
            headers = {"Content-Type": rng.choice(TYPES), **rng.choice(NOISY_HEADERS)}
            if rng.random() < 0.6:
                headers = api.headers | {"Content-Type": rng.choice(TYPES)}
            body = rng.choice(BODIES) if method != "HEAD" else None
            answer = send_noise(api, method, target, body, headers)
            answers[answer] += 1
            if answer is not None:
                assert answer in known, (number, method, target[:200], headers, answer)
        assert api.get("/version").status == 200
    _, complaints = capfd.readouterr()
    assert "Traceback" not in complaints
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    assert answers[None] < sum(answers.values()) / 10, answers
    assert answers[200] > 10, answers


def send_noise(
    api: Api, method: str, target: str, body: bytes | None, headers: dict[str, str]
) -> int | None:
    """The status; None when the connection was closed, as it may be on a body left unread."""
    try:
        answer = api.send(method, target, body, headers)
    except (ConnectionError, ssl.SSLEOFError, http.client.RemoteDisconnected):
        return None
    assert "simulator bug" not in answer.reason, (method, target, body, answer.reason)
    return answer.status


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET /api2/json/version HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api2/json/version HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000 + b"\r\n",
        b"POST /api2/json/access/ticket HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nuser",
    ],
)
def test_broken_http_inside_tls_does_no_harm(sim: SimulatorThread, api: Api, raw: bytes):
    tls = ssl.create_default_context(cafile=str(sim.ca_file))
    with (
        socket.create_connection(("127.0.0.1", sim.port), timeout=10) as plain,
        tls.wrap_socket(plain, server_hostname="127.0.0.1") as wrapped,
    ):
        wrapped.sendall(raw)
    assert api.get("/version").status == 200
