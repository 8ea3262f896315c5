"""What every answer of the API has in common, and the asking for it."""

from __future__ import annotations

import json
import re
from typing import Any

import requests
from django.http import HttpResponse
from rest_framework.test import APIClient

# API.md, "Virtual machine".
VM_FIELDS = {
    "id",
    "uuid",
    "cluster",
    "node",
    "project",
    "name",
    "description",
    "tags",
    "metadata",
    "status",
    "template",
    "os_type",
    "os_template",
    "size",
    "cores",
    "memory",
    "disk_size",
    "ip_address",
    "ipv6_address",
    "mac_address",
    "network",
    "cloud_init",
    "cpu_usage",
    "memory_used",
    "disk_read",
    "disk_write",
    "net_in",
    "net_out",
    "uptime",
    "protected",
    "task",
    "last_error",
    "created_at",
    "updated_at",
    "synced_at",
    "stale",
}
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
PROBLEM = {"type", "title", "status", "detail", "code", "error", "request_id"}


def problem_of(answer: HttpResponse, status: int, code: str | None = None) -> dict[str, Any]:
    """The answer's body, once it is a problem of API.md's shape with this status (and code)."""
    assert answer.status_code == status, (answer.status_code, answer.content[:500])
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = json.loads(answer.content)
    assert set(body) == PROBLEM | ({"errors"} if status == 400 or "errors" in body else set())
    assert body["status"] == status
    assert body["detail"] == body["error"] != ""
    assert body["request_id"] == answer["X-Request-ID"] != ""
    for entry in body.get("errors", []):
        assert set(entry) == {"field", "message"}
        assert entry["message"]
    if status == 400:
        assert body["errors"]
    if code is not None:
        assert body["code"] == code, body
    return body


def fields_of(body: dict[str, Any]) -> list[str]:
    return [entry["field"] for entry in body["errors"]]


class Caller:
    """A client that shows an unhandled error as the 500 that a real caller would see."""

    def __init__(self, client: APIClient) -> None:
        client.raise_request_exception = False
        self.client = client

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> HttpResponse:
        raw: Any = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body)
        answer: HttpResponse = self.client.generic(
            method,
            path,
            raw,
            content_type=headers.pop("content_type", "application/json"),
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        return answer

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> HttpResponse:
        return self.ask("POST", path, body, **headers)

    def delete(self, path: str, **headers: str) -> HttpResponse:
        return self.ask("DELETE", path, **headers)


def started_in_proxmox(sim: Any) -> str:
    """The UPID of a task that somebody started past us, ended."""
    answer = requests.post(
        f"{sim.url}/api2/json/nodes/pve/qemu/100/snapshot",
        data={"snapname": f"s{len(sim.tasks())}"},
        headers={"Authorization": f"PVEAPIToken={sim.token_id}={sim.token_secret}"},
        verify=str(sim.ca_file),
        timeout=10,
    )
    answer.raise_for_status()
    upid: str = answer.json()["data"]
    sim.wait_for(lambda s: s.world.tasks[upid].exitstatus is not None, what="the task's end")
    return upid
