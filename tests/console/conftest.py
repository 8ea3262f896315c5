"""The web server as it is served, in a thread of the test's process or in a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import uvicorn
from django.db import connection

from accounts.actors import Actor
from izvor_project.management.commands.serve import SERVER
from tests.console.viewer import Viewer
from tests.waiting import wait_until
from vms import console
from vms.models import VirtualMachine

HOST = "127.0.0.1"


@pytest.fixture
def vm(cluster) -> VirtualMachine:
    """VM 100, which runs on `pve`."""
    vm: VirtualMachine = VirtualMachine.objects.get(vmid=100)
    return vm


@pytest.fixture
def mint(vm: VirtualMachine, operator: Actor) -> Callable[[], str]:
    """A fresh ticket for VM 100."""
    return lambda: console.mint_link(vm=vm, by=operator).ticket


@dataclass
class Web:
    port: int

    @property
    def origin(self) -> str:
        return f"http://{HOST}:{self.port}"

    def open(self, ticket: str, **options: Any) -> Viewer:
        return Viewer(HOST, self.port, ticket, **options)


@pytest.fixture
def web(vm: VirtualMachine) -> Iterator[Web]:
    """uvicorn with the options of `manage.py serve`, in a thread: settings can be shortened."""
    config = uvicorn.Config("izvor_project.asgi:application", host=HOST, port=0, **SERVER)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="test-web")
    thread.start()
    wait_until(lambda: server.started, "the web server")
    yield Web(server.servers[0].sockets[0].getsockname()[1])
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()


@dataclass
class WebProcess(Web):
    process: subprocess.Popen[bytes]
    log: Path

    def resident_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) * 1024


@pytest.fixture
def web_process(vm: VirtualMachine, tmp_path: Path) -> Iterator[Callable[..., WebProcess]]:
    """Starts `manage.py serve` on the test's database; the keywords are environment variables."""
    started: list[WebProcess] = []

    def start(**env: str) -> WebProcess:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = probe.getsockname()[1]
        database = urlsplit(os.environ["DATABASE_URL"])
        name = connection.settings_dict["NAME"]
        ours = {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": database._replace(path=f"/{name}").geturl(),
            "IZVOR_BIND": HOST,
            "IZVOR_PORT": str(port),
            "PYTHONUNBUFFERED": "1",
        }
        log = tmp_path / f"web-{len(started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "serve"],
                env={**os.environ, **ours, **env},
                stdout=output,
                stderr=output,
            )
        started.append(WebProcess(port, process, log))
        wait_until(lambda: answers(port), log.read_text(), 60)
        return started[-1]

    yield start
    for web in started:
        if web.process.poll() is None:
            web.process.send_signal(signal.SIGTERM)
            web.process.wait(20)


def answers(port: int) -> bool:
    try:
        with urlopen(f"http://{HOST}:{port}/health/live", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
