"""All of Izvor as processes, asked as its users ask it, and looked at from behind."""

from __future__ import annotations

import uuid
from collections import Counter
from typing import Any

import psycopg
import requests

from operations.models import SUCCEEDED
from tests.stack import Makeup, Stack
from tests.waiting import wait_until

SPEED = 20
# Two workers and two beats, with the product's own times.
MAKEUP = Makeup(
    settings="izvor_project.settings",
    simulator=("--faults", "--vms", "6", "--speed", str(SPEED), "--no-lag"),
    beats=("beat", "beat-2"),
    env=(("IZVOR_RATE_REQUESTS", "0"), ("IZVOR_LOG_FORMAT", "json")),
)
# What is promised (docs/operations.md), in seconds.
AFTER_A_DEAD_WORKER_S = 30.0
AFTER_A_LOST_MESSAGE_S = 10.0


class Site:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.dsn = stack.env["DATABASE_URL"]

    def create(self, count: int, **more: Any) -> dict[str, str]:
        """Names of new VMs, with their tasks."""
        prefix = f"plug-{uuid.uuid4().hex[:8]}"
        body = {"name": prefix, "template": "debian-12", "memory": 256, "cores": 1, **more}
        answer = self.post("vms", {**body, "count": count, "start_on_create": True})
        assert answer.status_code == 202, answer.text
        tasks = [task["id"] for task in answer.json()["tasks"]]
        return {f"{prefix}-{number + 1}": task for number, task in enumerate(tasks)}

    def post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.stack.url}/{path}", json=body, timeout=60)

    def get(self, path: str) -> Any:
        return requests.get(f"{self.stack.url}/{path}", timeout=60).json()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def states(self, tasks: dict[str, str]) -> Counter[str]:
        found = self.rows(
            "SELECT state FROM operations_operation WHERE uuid = ANY(%s)", list(tasks.values())
        )
        return Counter(state for (state,) in found)

    def confirm(self, tasks: dict[str, str], seconds: float = 120) -> None:
        """All succeed in the end, and each VM is on the cluster once, beside none that is not."""
        wait_until(
            lambda: self.states(tasks)[SUCCEEDED] == len(tasks),
            f"the end of all tasks, {self.states(tasks)}",
            seconds,
        )
        there = Counter(guest["name"] for guest in self.stack.proxmox("cluster/resources?type=vm"))
        prefix = next(iter(tasks)).rpartition("-")[0]
        assert {n: c for n, c in there.items() if n.startswith(prefix)} == dict.fromkeys(tasks, 1)
        assert self.rows("SELECT count(*) FROM operations_claim") == [(0,)]
        assert self.rows("SELECT count(*) FROM operations_laneticket") == [(0,)]
