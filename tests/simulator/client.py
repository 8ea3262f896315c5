"""A small client for the tests: what a call answered, status and reason included."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from pve_simulator.testing import SimulatorThread

DEADLINE_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    reason: str
    body: Any
    headers: dict[str, str]

    @property
    def data(self) -> Any:
        return self.body["data"]

    @property
    def errors(self) -> dict[str, str]:
        found: dict[str, str] = self.body["errors"]
        return found


class Api:
    """Calls the simulator with a token (the default one unless another is given)."""

    def __init__(self, sim: SimulatorThread, *, headers: dict[str, str] | None = None) -> None:
        self.sim = sim
        self._tls = ssl.create_default_context(cafile=str(sim.ca_file))
        token = f"PVEAPIToken={sim.token_id}={sim.token_secret}"
        self.headers = {"Authorization": token} if headers is None else headers

    def call(
        self, method: str, path: str, params: dict[str, Any] | None = None, **headers: str
    ) -> Answer:
        """`params` go into the query of GET and DELETE, into the body of POST and PUT."""
        target, body = f"/api2/json{path}", None
        if params and method in ("GET", "DELETE"):
            target += "?" + urlencode(params, quote_via=quote)
        elif method in ("POST", "PUT"):
            body = urlencode(params or {}, quote_via=quote).encode()
        return self.send(method, target, body, self.headers | headers)

    def send(self, method: str, target: str, body: bytes | None, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.sim.port, context=self._tls, timeout=DEADLINE_S
        )
        try:
            connection.request(method, target, body=body, headers=headers)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        is_json = (answer.getheader("Content-Type") or "").startswith("application/json")
        parsed = json.loads(raw) if is_json and raw else raw.decode()
        return Answer(answer.status, answer.reason, parsed, dict(answer.getheaders()))

    def get(self, path: str, /, **params: Any) -> Answer:
        return self.call("GET", path, params)

    def post(self, path: str, /, **params: Any) -> Answer:
        return self.call("POST", path, params)

    def put(self, path: str, /, **params: Any) -> Answer:
        return self.call("PUT", path, params)

    def delete(self, path: str, /, **params: Any) -> Answer:
        return self.call("DELETE", path, params)

    def task(self, upid: str) -> dict[str, Any]:
        """Wait for a task's end; its status."""
        node = upid.split(":")[1]
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            status = self.get(f"/nodes/{node}/tasks/{quote(upid, safe='')}/status").data
            if status["status"] == "stopped":
                return dict(status)
            threading.Event().wait(0.02)
        raise TimeoutError(upid)

    def log(self, upid: str) -> list[str]:
        node = upid.split(":")[1]
        rows = self.get(f"/nodes/{node}/tasks/{quote(upid, safe='')}/log", limit=0).data
        return [row["t"] for row in rows]

    def done(self, answer: Answer) -> str:
        """The exit status of the task that a call began."""
        assert answer.status == 200, (answer.status, answer.reason)
        return str(self.task(answer.data)["exitstatus"])
