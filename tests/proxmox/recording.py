"""The recorded exchanges with a real Proxmox VE 8.4, in the order in which they happened."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

RECORDING = Path(__file__).parents[1] / "data" / "pve" / "exchanges.jsonl"


@dataclass(frozen=True)
class Exchange:
    name: str
    method: str
    path: str
    query: dict[str, Any]
    sent: Any
    status: int
    reason: str
    body: Any

    @property
    def json_body(self) -> dict[str, Any] | None:
        return self.body if isinstance(self.body, dict) else None


@cache
def exchanges() -> tuple[Exchange, ...]:
    found = []
    for line in RECORDING.read_text().splitlines():
        entry = json.loads(line)
        request, response = entry["request"], entry["response"]
        found.append(
            Exchange(
                entry["name"],
                request["method"],
                unquote(request["path"]),
                request["query"],
                request["body"],
                response["status"],
                response["reason"],
                response["body"],
            )
        )
    return tuple(found)


def by_name(name: str) -> Exchange:
    return next(each for each in exchanges() if each.name == name)


@cache
def task_logs() -> dict[str, list[str]]:
    """The lines of each task's log, by the path of the task."""
    return {
        each.path.removesuffix("/log"): [line["t"] for line in each.body["data"]]
        for each in exchanges()
        if "/tasks/" in each.path
        and each.path.endswith("/log")
        and each.status == 200
        # An unknown task's log is one line that is not in a list.
        and isinstance(each.body["data"], list)
    }
