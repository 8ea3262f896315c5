"""Replays the recorded exchanges, in order, against a fresh simulator set up as that node was."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pve_simulator.access import AclEntry, User
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from tests.simulator import hidden, shapes

EXCHANGES = Path(__file__).parents[1] / "data" / "pve" / "exchanges.jsonl"
SPEED = 25.0
NO_CYCLE_S = 1e6
"""The statistics cycle comes when `hidden` says so."""

SECRETS = {
    "izvor@pve!api": "11111111-1111-4111-8111-111111111111",
    "izvor@pve!limited": "22222222-2222-4222-8222-222222222222",
    "root@pam!izvor": "33333333-3333-4333-8333-333333333333",
}
PASSWORD = "right-password"
TASK_DEADLINE_S = 20.0
IMAGE = b"QFI\xfb\0\0\0\3" + bytes(16) + (64 * 1024**2).to_bytes(8, "big") + bytes(13959136)
"""As long as the recorded image, and with a disk of the same size inside."""

Json = dict[str, Any]
Answer = tuple[int, str, Any]


@dataclass(slots=True)
class Result:
    name: str
    problems: list[str] = field(default_factory=list)
    excluded: str | None = None

    @property
    def agrees(self) -> bool:
        return not self.problems


def load_exchanges() -> list[Json]:
    """In the order to send them: of raced calls the one that won the recorded race goes first."""
    exchanges = [json.loads(line) for line in EXCHANGES.read_text().splitlines()]
    names = [exchange["name"] for exchange in exchanges]
    for first, second in hidden.SWAPPED:
        i, j = names.index(first), names.index(second)
        exchanges[i], exchanges[j] = exchanges[j], exchanges[i]
        names[i], names[j] = names[j], names[i]
    return exchanges


class _Images(BaseHTTPRequestHandler):
    """What the recorded node downloaded from."""

    def _answer(self, *, with_body: bool) -> None:
        if self.path != "/mini.qcow2":
            self.send_error(404, "File not found")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(IMAGE)))
        self.end_headers()
        if with_body:
            self.wfile.write(IMAGE)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        return


@contextmanager
def image_server() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Images)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def set_up_access(sim: Simulator) -> None:
    """The users and tokens that the recorded node had."""
    access = sim.access
    izvor = access.users["izvor@pve"]
    izvor.password = PASSWORD
    izvor.tokens["limited"].privsep = True
    access.users["reader@pve"] = User("reader@pve", PASSWORD)
    access.acl.insert(0, AclEntry("/", "user", "reader@pve", "PVEAuditor"))


class Replay:
    """One run. `run` yields a result for each exchange, in order."""

    def __init__(self, sim: SimulatorThread, image_port: int) -> None:
        self._sim = sim
        self._image_port = image_port
        self._upids: dict[str, str] = {}
        self._secrets = dict(SECRETS)
        self._digest = ""
        self._vnc: Json = {}
        self._archives: dict[str, str] = {}
        self._early: dict[str, Answer] = {}
        self._tls = ssl.create_default_context(cafile=str(sim.ca_file))
        sim.change(set_up_access)
        self._tickets = {user: self._login(user) for user in ("izvor@pve", "reader@pve")}

    def run(self, excluded: dict[str, str]) -> Iterator[Result]:
        exchanges = load_exchanges()
        by_name = {exchange["name"]: exchange for exchange in exchanges}
        upcoming = {one: by_name[other] for one, other in hidden.TOGETHER}
        for exchange in exchanges:
            name = exchange["name"]
            hidden.act_before(name, self._sim)
            result = Result(name, excluded=excluded.get(name))
            result.problems = self._replay_one(exchange, upcoming.get(name))
            yield result

    def _login(self, user: str) -> tuple[str, str]:
        body = urlencode({"username": user, "password": PASSWORD})
        _, _, answer = self._send("POST", "/api2/json/access/ticket", {}, body.encode())
        data = answer["data"]
        return data["ticket"], data["CSRFPreventionToken"]

    def _send(self, method: str, target: str, headers: Json, body: bytes | None) -> Answer:
        connection = self._connection()
        connection.request(method, target, body=body, headers=headers)
        return _received(connection)

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            "127.0.0.1", self._sim.port, context=self._tls, timeout=60
        )

    def _replay_one(self, exchange: Json, other: Json | None) -> list[str]:
        """Send one exchange, or take the answer of one that was sent together with another."""
        name, request, recorded = exchange["name"], exchange["request"], exchange["response"]
        is_status = name.endswith(("-task-status", "-task-status-after"))
        if is_status and recorded["body"]["data"].get("exitstatus"):
            self._wait_for_end(exchange)
        began = time.monotonic()
        if name in self._early:
            status, reason, live = self._early.pop(name)
        elif other is not None:
            (status, reason, live), self._early[other["name"]] = self._send_both(exchange, other)
        elif name in hidden.PLAIN_HTTP:
            plain = http.client.HTTPConnection("127.0.0.1", self._sim.port, timeout=60)
            plain.request(request["method"], request["path"])
            status, reason, live = _received(plain)
        else:
            target, headers, body = self._prepared(name, request)
            status, reason, live = self._send(request["method"], target, headers, body)
        elapsed_s = (time.monotonic() - began) * SPEED
        self._learn(name, recorded, live)
        return self._compare(name, exchange, status, reason, live, elapsed_s)

    def _send_both(self, *exchanges: Json) -> tuple[Answer, Answer]:
        """Two requests on connections that are already open, the second right after the first."""
        open_ones = []
        for exchange in exchanges:
            connection = self._connection()
            connection.connect()
            open_ones.append((connection, exchange))
        for connection, exchange in open_ones:
            request = exchange["request"]
            target, headers, body = self._prepared(exchange["name"], request)
            seen = len(self._sim.calls)
            connection.request(request["method"], target, body=body, headers=headers)
            self._sim.wait_for(partial(_has_more_calls, seen))
        first, second = (_received(connection) for connection, _ in open_ones)
        return first, second

    def _wait_for_end(self, exchange: Json) -> None:
        path = self._path(exchange["request"]["path"])
        headers = {"Authorization": f"PVEAPIToken=izvor@pve!api={SECRETS['izvor@pve!api']}"}
        deadline = time.monotonic() + TASK_DEADLINE_S
        while time.monotonic() < deadline:
            _, _, body = self._send("GET", path, headers, None)
            if not isinstance(body, dict) or (body.get("data") or {}).get("status") != "running":
                return
            threading.Event().wait(0.02)

    def _prepared(self, name: str, request: Json) -> tuple[str, Json, bytes | None]:
        headers = self._headers(name, request)
        target = self._path(request["path"])
        if request["query"]:
            target += "?" + urlencode(self._values(name, request["query"]), quote_via=quote)
        body = request["body"]
        if isinstance(body, str) and body.startswith("<multipart"):
            raw, headers["Content-Type"] = _multipart(body)
            return target, headers, raw
        if isinstance(body, str):
            return target, headers, body.encode()
        if body is None:
            return target, headers, b"" if request["method"] in ("POST", "PUT") else None
        if headers.get("Content-Type") == "application/json":
            return target, headers, json.dumps(self._values(name, body)).encode()
        items = body if isinstance(body, list) else self._values(name, body).items()
        pairs = [(key, value) for key, value in items]
        return target, headers, urlencode(pairs, quote_via=quote).encode()

    def _headers(self, name: str, request: Json) -> Json:
        headers = dict(request["headers"])
        authorization = headers.get("Authorization", "")
        match = re.fullmatch(r"PVEAPIToken=(\S+)=<token-secret>", authorization)
        if match:
            secret = self._secrets.get(match.group(1), "0")
            if name in hidden.WRONG_SECRET:
                secret = "00000000-0000-4000-8000-000000000000"
            headers["Authorization"] = f"PVEAPIToken={match.group(1)}={secret}"
        if "Cookie" in headers:
            user = "reader@pve" if "reader" in name else "izvor@pve"
            ticket, csrf = self._tickets[user]
            if "tampered" in name:
                ticket = ticket[:-8] + "AAAAAAA="
            if "expired" in name:
                stamp = f"PVE:{user}:60000000"
                signature = self._sim.change(lambda sim: sim.access.sign(stamp))
                ticket = f"{stamp}::{signature}"
            headers["Cookie"] = f"PVEAuthCookie={quote(ticket)}"
            if "CSRFPreventionToken" in headers:
                headers["CSRFPreventionToken"] = "nonsense" if "wrong" in name else csrf
        if "Upgrade" in headers:
            headers |= {"Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
            headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        return headers

    def _path(self, path: str) -> str:
        for recorded, live in self._upids.items():
            encoded = quote(recorded, safe="")
            if encoded in path:
                return path.replace(encoded, quote(live, safe=""))
            if recorded in path:
                return path.replace(recorded, quote(live, safe=":!@"))
        return path

    def _values(self, name: str, values: Json) -> Json:
        changed = dict(values)
        for key, value in values.items():
            if value == "<redacted>" or (key == "password" and "ticket" in name):
                changed[key] = self._password(name)
            elif key == "digest" and not str(value).startswith("000"):
                changed[key] = self._digest
            elif key == "url":
                port = "9" if ":9/" in value else str(self._image_port)
                changed[key] = re.sub(r":\d+/", f":{port}/", value)
            elif key == "checksum" and not str(value).startswith("000"):
                changed[key] = hashlib.sha256(IMAGE).hexdigest()
            elif key in ("volume", "archive"):
                changed[key] = self._archives.get(value, value)
            elif key == "since":
                changed[key] = int(time.time()) + 1000
            elif key == "vncticket":
                changed[key] = self._vnc.get("ticket", "") if "bad" not in name else "PVEVNC:1::AA"
            elif key == "port" and self._vnc:
                changed[key] = self._vnc.get("port", value)
            elif key == "pid" and value != 99999 and "pid" in self._vnc:
                changed[key] = self._vnc["pid"]
        return changed

    def _password(self, name: str) -> str:
        if "bad-password" in name:
            return "wrong-password"
        return self._tickets["izvor@pve"][0] if "renew" in name else PASSWORD

    def _learn(self, name: str, recorded: Json, live: Any) -> None:
        """Keep what later requests refer to: UPIDs, the digest, new secrets, the console."""
        theirs = recorded["body"].get("data") if isinstance(recorded["body"], dict) else None
        ours = live.get("data") if isinstance(live, dict) else None
        if isinstance(theirs, str) and theirs.startswith("UPID:") and isinstance(ours, str):
            self._upids[theirs] = ours
        if name == "697-backup-list-2" and isinstance(theirs, list):
            both = zip(theirs, ours or [], strict=False)
            self._archives = {one["volid"]: other["volid"] for one, other in both}
        if isinstance(ours, dict):
            self._digest = ours.get("digest", self._digest)
            if "full-tokenid" in ours:
                self._secrets[ours["full-tokenid"]] = ours["value"]
            if "vncproxy" in str(ours.get("upid", "")) or set(ours) == {"pid"}:
                self._vnc |= ours

    def _compare(
        self, name: str, exchange: Json, status: int, reason: str, live: Any, elapsed_s: float
    ) -> list[str]:
        problems = []
        request, recorded = exchange["request"], exchange["response"]
        if status != recorded["status"]:
            problems.append(f"status: recorded {recorded['status']}, got {status} {reason}")
        elif shapes.normalised(recorded["reason"]) != shapes.normalised(reason):
            problems.append(f"reason: recorded {recorded['reason']!r}, got {reason!r}")
        if name.endswith("-task-status-running") and not problems:
            recorded, live = _without_end(recorded), _without_end({"body": live})["body"]
        if not problems and "Upgrade" not in request["headers"]:
            problems += shapes.differences(recorded["body"], live)
        if name.endswith("-task-log") and not problems and recorded["body"].get("data"):
            problems += _last_line_differences(recorded["body"], live)
        recorded_ms = recorded.get("elapsed_ms", 0)
        if recorded["status"] == 401 and recorded_ms >= 3000 and not 2.9 <= elapsed_s < 15:
            problems.append(f"a 401 took {elapsed_s:.1f} s, recorded {recorded_ms} ms")
        return problems


def _has_more_calls(seen: int, live: Simulator) -> bool:
    return len(live.calls) > seen


def _received(connection: http.client.HTTPConnection) -> Answer:
    try:
        answer = connection.getresponse()
        raw = answer.read().decode()
    finally:
        connection.close()
    is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
    return answer.status, answer.reason, json.loads(raw) if is_json and raw else raw


def _without_end(answer: Json) -> Json:
    """Whether the worker was over when it was first asked about is a matter of milliseconds."""
    data = {k: v for k, v in answer["body"]["data"].items() if k not in ("status", "exitstatus")}
    return answer | {"body": {"data": data}}


def _last_line_differences(recorded: Json, live: Json) -> list[str]:
    theirs, ours = recorded["data"][-1]["t"], live["data"][-1]["t"]
    if not theirs.startswith("TASK "):
        return []
    if shapes.normalised(theirs) != shapes.normalised(ours):
        return [f"last line: recorded {theirs!r}, got {ours!r}"]
    return []


def _multipart(text: str) -> tuple[bytes, str]:
    match = re.fullmatch(r"<multipart: content=(\S+), filename=(\S+), (\d+) bytes>", text)
    if match is None:
        raise ValueError(text)
    boundary = "izvor-boundary"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"\r\n\r\n'
        f"{match.group(1)}\r\n--{boundary}\r\nContent-Disposition: form-data; "
        f'name="filename"; filename="{match.group(2)}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    content = os.urandom(int(match.group(3)))
    raw = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    return raw, f"multipart/form-data; boundary={boundary}"


def replay(excluded: dict[str, str]) -> list[Result]:
    """Run everything once."""
    with (
        image_server() as port,
        SimulatorThread(
            world="recorded", speed=SPEED, tokens=SECRETS, vms=0, cycle_s=NO_CYCLE_S
        ) as sim,
    ):
        return list(Replay(sim, port).run(excluded))
