"""Izvor as it runs, every part a process of its own, and the pulling of their plugs."""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import ssl
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from launcher import children
from launcher.children import Child, Running
from launcher.ports import remembered_port
from launcher.probes import http_answers, tls_answers
from launcher.services import ROOT, plan_services
from launcher.state import StateFolder, open_temporary_state
from tests.waiting import wait_until

WORKERS = ("worker-1", "worker-2")
TOKEN_ID = "root@pam!chaos"


@dataclass(frozen=True)
class Makeup:
    """What differs between a stack that is harassed and one that is measured."""

    settings: str = "tests.chaos.settings"
    auth: str = "none"
    simulator: tuple[str, ...] = ("--faults", "--vms", "6", "--speed", "20")
    workers: tuple[str, ...] = WORKERS
    beats: tuple[str, ...] = ("beat",)
    env: tuple[tuple[str, str], ...] = ()


class Part:
    """One process: started, killed, started again."""

    def __init__(self, child: Child, logs: Path) -> None:
        self.child = child
        self.log = logs / f"{child.name}.log"
        self.running: Running | None = None

    def start(self) -> None:
        self.running = children.start(self.child, log=self.log)

    def wait_ready(self, seconds: float = 60) -> None:
        wait_until(self.is_ready, f"{self.child.name} (see {self.log})", seconds)

    def is_ready(self) -> bool:
        if self.child.ready_words:
            assert self.running is not None
            said = self.log.read_bytes()[self.running.log_start :]
            return self.child.ready_words.encode() in said
        return self.child.ready is None or self.child.ready()

    def kill(self) -> None:
        """SIGKILL to the process itself, without a word before."""
        assert self.running is not None
        guard = self.running.guard.pid
        found = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()
        for pid in found:
            os.kill(int(pid), signal.SIGKILL)
        self.running.guard.wait(10)
        self.running.let_go()

    def stop(self) -> None:
        """As it is stopped on an ordinary day."""
        if self.running is not None:
            self.running.let_go()
            self.running.wait_for_end()
            self.running = None


class Stack:
    """All of Izvor on a folder of its own."""

    def __init__(self, state: StateFolder, seed: int, makeup: Makeup = Makeup()) -> None:
        self.state = state
        self.makeup = makeup
        self.chance = random.Random(seed)
        self.ca_file = state.folder("simulator") / "ca.pem"
        self.simulator_port = remembered_port(
            state.path / "simulator.port", host="127.0.0.1", first=18006
        )
        self.web_port = remembered_port(state.path / "web.port", host="127.0.0.1", first=18082)
        self.proxmox_secret = secrets.token_hex(16)
        environ = {k: v for k, v in os.environ.items() if k not in {"DATABASE_URL", "REDIS_URL"}}
        services = plan_services(state, environ)
        self.env = {**services.env, **self._izvor_env()}
        postgres, valkey = services.children
        parts = [postgres, valkey, self._simulator(), self._web()]
        parts += [self._worker(name) for name in makeup.workers]
        parts += [self._beat(name) for name in makeup.beats]
        self.parts = {child.name: Part(child, state.logs) for child in parts}

    def _izvor_env(self) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": self.makeup.settings,
            "IZVOR_SECRET_KEY": "the key of one run",
            "IZVOR_PORT": str(self.web_port),
            "IZVOR_AUTH": self.makeup.auth,
            "IZVOR_LOG_LEVEL": "INFO",
            "IZVOR_PROXMOX_KIND": "simulator",
            "PROXMOX_URL": f"https://127.0.0.1:{self.simulator_port}",
            "PROXMOX_TOKEN_ID": TOKEN_ID,
            "PROXMOX_TOKEN_SECRET": self.proxmox_secret,
            "PROXMOX_CA_FILE": str(self.ca_file),
            "PYTHONUNBUFFERED": "1",
            **dict(self.makeup.env),
        }

    def _simulator(self) -> Child:
        argv = [*(sys.executable, "-m", "pve_simulator", *self.makeup.simulator)]
        argv += ["--port", str(self.simulator_port)]
        argv += ["--state", str(self.ca_file.parent)]
        env = {**self.env, "PVE_SIMULATOR_TOKEN": f"{TOKEN_ID}={self.proxmox_secret}"}
        return Child(
            "simulator",
            argv,
            env=env,
            cwd=ROOT,
            ready=lambda: tls_answers("127.0.0.1", self.simulator_port, ca_file=self.ca_file),
        )

    def _web(self) -> Child:
        argv = [sys.executable, str(ROOT / "manage.py"), "serve"]
        ready = lambda: http_answers("127.0.0.1", self.web_port, "/health/ready")  # noqa: E731
        return Child("web", argv, env=self.env, cwd=ROOT, ready=ready)

    def _worker(self, name: str) -> Child:
        argv = [*(sys.executable, "-m", "celery", "-A", "izvor_project", "worker")]
        argv += ["--pool", "threads", "-c", "8", "-l", "INFO", "-n", f"{name}@chaos"]
        argv += ["--without-mingle", "--without-gossip"]
        return Child(name, argv, env=self.env, cwd=ROOT, ready_words=" ready.")

    def _beat(self, name: str) -> Child:
        argv = [*(sys.executable, "-m", "celery", "-A", "izvor_project", "beat")]
        argv += ["-s", str(self.state.folder(name) / "schedule")]
        return Child(name, argv, env=self.env, cwd=ROOT)

    def __enter__(self) -> Stack:
        self.start("postgres", "valkey", "simulator")
        self.prepare()
        for name in ("web", *self.makeup.workers, *self.makeup.beats):
            self.parts[name].start()
        self.parts["web"].wait_ready()
        return self

    def start(self, *names: str) -> None:
        """Start these, each when the one before it is ready."""
        for name in names:
            self.parts[name].start()
            self.parts[name].wait_ready()

    def prepare(self) -> None:
        """`manage.py prepare`, in a process of its own."""
        argv = [sys.executable, str(ROOT / "manage.py"), "prepare"]
        prepare = Part(Child("prepare", argv, env=self.env, cwd=ROOT), self.state.logs)
        prepare.start()
        assert prepare.running is not None
        assert prepare.running.guard.wait(120) == 0, prepare.log.read_text()

    def __exit__(self, *_: object) -> None:
        for part in reversed(self.parts.values()):
            part.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.web_port}/api/v1"

    # --- what goes wrong ---

    def kill(self, name: str) -> None:
        part = self.parts[name]
        part.kill()
        part.start()

    def restart(self, name: str) -> None:
        part = self.parts[name]
        part.stop()
        part.start()
        part.wait_ready()

    def change(self, name: str, **env: str) -> None:
        """What differs in this part's environment from its next start on."""
        part = self.parts[name]
        # Not of the guard that keeps it.
        argv = ["env", *(f"{key}={value}" for key, value in env.items()), *part.child.argv]
        part.child = replace(part.child, argv=argv)

    def cause(self, accident: str, **arguments: Any) -> None:
        self._sim("POST", f"accidents/{accident}", arguments)

    def add_fault(self, **rule: Any) -> None:
        self._sim("POST", "faults", rule)

    def clear_faults(self) -> None:
        self._sim("DELETE", "faults", None)

    def proxmox(self, path: str) -> Any:
        """What the cluster itself answers to this question."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.simulator_port}/api2/json/{path}",
            headers={"Authorization": f"PVEAPIToken={TOKEN_ID}={self.proxmox_secret}"},
        )
        return json.loads(self._answer_to(request))["data"]

    def _sim(self, method: str, path: str, body: dict[str, Any] | None) -> None:
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.simulator_port}/sim/{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
        )
        self._answer_to(request)

    def _answer_to(self, request: urllib.request.Request) -> bytes:
        context = ssl.create_default_context(cafile=str(self.ca_file))
        with urllib.request.urlopen(request, timeout=30, context=context) as answer:
            return bytes(answer.read())


@contextmanager
def running_stack(seed: int = 1, makeup: Makeup = Makeup()) -> Iterator[Stack]:
    """All of Izvor on a folder that is gone afterwards."""
    state = open_temporary_state()
    try:
        with Stack(state, seed=seed, makeup=makeup) as stack:
            yield stack
    finally:
        state.close()
        shutil.rmtree(state.path, ignore_errors=True)
