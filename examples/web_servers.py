"""Three web servers with user-data of their own, made at once, watched, and taken down again.

Needs `requests`, which `.venv/bin/python` has. Against `make dev` it runs as it is; elsewhere set
IZVOR_URL and IZVOR_TOKEN.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Any

import requests

URL = os.environ.get("IZVOR_URL", "http://localhost:8082")
USER_DATA = """#cloud-config
packages: [nginx]
"""
ENDED = {"succeeded", "failed", "canceled"}


class Izvor:
    """A few lines around `requests`: the token, and errors that say what was wrong."""

    def __init__(self, url: str, token: str = "") -> None:
        self.url = f"{url}/api/v1"
        self.session = requests.Session()
        if token:
            self.session.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method: str, path: str, body: Any = None, **params: str) -> Any:
        """The answer's JSON. A request that changes something can be sent again with its key."""
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid.uuid4())}
        answer = self.session.request(
            method, self.url + path, json=body, params=params, headers=headers, timeout=60
        )
        if not answer.ok:
            problem = answer.json()
            raise SystemExit(f"{problem['code']}: {problem['detail']} {problem.get('errors', '')}")
        return answer.json()

    def wait_for(self, task: str) -> dict[str, Any]:
        """Until the task has ended, saying what it waits for meanwhile."""
        said = ""
        while True:
            found: dict[str, Any] = self.ask("GET", f"/tasks/{task}")
            if found["status"] in ENDED:
                return found
            now = f"{found['type']} {found['vmid']}: {found['step']}, {found['waiting_for']}"
            if now != said:
                print(f"  {now}")
                said = now
            time.sleep(0.5)


def main() -> None:
    izvor = Izvor(URL, os.environ.get("IZVOR_TOKEN", ""))
    wanted = {
        "name": "web",
        "count": 3,
        "template": "ubuntu-22.04",
        "size": "micro",
        "linked": True,
        "tags": ["web"],
        "cloud_init": {"user": "admin", "user_data": USER_DATA},
    }
    plan = izvor.ask("POST", "/vms", wanted, dry_run="true")
    print(f"They would go to {', '.join(plan['nodes'])}")
    made = izvor.ask("POST", "/vms", wanted)
    for task in made["tasks"]:
        ended = izvor.wait_for(task["id"])
        print(f"{ended['type']} {ended['vmid']}: {ended['status']} {ended['error'] or ''}".strip())
    for vm in izvor.ask("GET", "/vms", tag="web")["vms"]:
        print(f"{vm['id']} {vm['name']} is {vm['status']} on {vm['node']}")
    for vm in made["vms"]:
        deletion = izvor.ask("DELETE", f"/vms/{vm['uuid']}")
        print(f"deleted {vm['name']}: {izvor.wait_for(deletion['task_id'])['status']}")


if __name__ == "__main__":
    main()
