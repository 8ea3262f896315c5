"""Clients that ask for all sorts of things, and keep account of what they were promised."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests

TRIES = 40
TEMPLATES = ("ubuntu-22.04", "debian-12")
NODES = ("pve", "pve2", "pve3")


@dataclass
class Promise:
    """A request that was answered 202."""

    task: str
    what: str
    vm: str
    asked: dict[str, Any] = field(default_factory=dict)


@dataclass
class Account:
    """What all clients were told; shared, so behind a lock."""

    promises: list[Promise] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, key: str) -> None:
        with self.lock:
            self.answers[key] += 1


class Client(threading.Thread):
    """One caller with VMs of its own, who sends again what was not answered, with the same key."""

    def __init__(self, number: int, url: str, account: Account, seed: int, requests_left: int):
        super().__init__(name=f"client-{number}")
        self.number = number
        self.url = url
        self.account = account
        self.chance = random.Random(f"{seed}-{number}")
        self.left = requests_left
        self.vms: list[str] = []
        self.made = 0
        self.deadline = float("inf")

    def run(self) -> None:
        while self.left > 0 and time.monotonic() < self.deadline:
            self.left -= 1
            self.act()
            time.sleep(self.chance.uniform(0.0, 0.4))

    def act(self) -> None:
        if not self.vms or self.chance.random() < 0.3:
            self.create()
            return
        vm = self.chance.choice(self.vms)
        what, method, path, body = self.chance.choice(self.choices())
        answer = self.ask(method, f"/vms/{vm}{path}", body)
        if answer is None or answer.status_code != 202:
            return
        said = answer.json()
        self.promise(said["task_id"], what, said.get("vm", {}).get("uuid", vm), body or {})
        if what == "clone":
            self.vms.append(said["vm"]["uuid"])
        if what == "delete":
            self.vms.remove(vm)

    def choices(self) -> list[tuple[str, str, str, dict[str, Any] | None]]:
        def action(name: str, **more: Any) -> tuple[str, str, str, dict[str, Any]]:
            return name, "POST", "/actions", {"action": name, **more}

        name = f"s{self.chance.randrange(10**6):06}"
        self.made += 1
        return [
            action("start"),
            action("stop", force=True),
            action("reboot", timeout=30),
            action("reset"),
            action("suspend"),
            action("resume"),
            action("snapshot", snapshot_name=name),
            action("migrate", node=self.chance.choice(NODES)),
            action("clone", clone_name=f"copy-{self.number}-{self.made}"),
            ("update", "PATCH", "", {"cores": self.chance.randint(1, 4), "tags": [name]}),
            ("delete", "DELETE", "", None),
        ]

    def create(self) -> None:
        self.made += 1
        body = {
            "name": f"vm-{self.number}-{self.made}",
            "template": self.chance.choice(TEMPLATES),
            "cores": self.chance.randint(1, 2),
            "memory": 256,
            "linked": self.chance.random() < 0.8,
            "start_on_create": self.chance.random() < 0.7,
        }
        answer = self.ask("POST", "/vms", body)
        if answer is not None and answer.status_code == 202:
            said = answer.json()
            self.vms.append(said["vm"]["uuid"])
            self.promise(said["task_id"], "create", said["vm"]["uuid"], body)

    def promise(self, task: str, what: str, vm: str, asked: dict[str, Any]) -> None:
        with self.account.lock:
            self.account.promises.append(Promise(task, what, vm, asked))

    def ask(self, method: str, path: str, body: dict[str, Any] | None) -> requests.Response | None:
        """Until there is an answer that means something; the key makes it safe."""
        key = str(uuid.UUID(int=self.chance.getrandbits(128)))
        for _ in range(TRIES):
            try:
                answer = requests.request(
                    method,
                    self.url + path,
                    json=body,
                    headers={"Idempotency-Key": key},
                    timeout=30,
                )
            except requests.RequestException:
                self.account.note("no answer")
                time.sleep(0.5)
                continue
            code = answer.json().get("code", "") if answer.status_code >= 400 else ""
            self.account.note(f"{answer.status_code} {code}".strip())
            if answer.status_code == 500:
                with self.account.lock:
                    self.account.broken.append(f"{method} {path}: {answer.text[:300]}")
            if answer.status_code in {500, 502, 503, 504} or code == "in_progress":
                time.sleep(0.5)
                continue
            return answer
        self.account.note("gave up")
        return None
