"""Launchers run as processes of their own, on folders of their own; what they leave behind is seen
by the working directory of every process on the machine (each child's is inside its folder)."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
#: What would lead a launcher under test to somebody else's servers or state.
FOREIGN = ("DATABASE_URL", "REDIS_URL", "PROXMOX_", "IZVOR_", "PG", "MAKE", "MFLAGS")


def clean_env(**more: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**env, **more}


def processes_in(folder: Path) -> dict[int, str]:
    """Every process whose working directory is in `folder`, with its command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            here = (entry / "cwd").readlink()
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if line and here.is_relative_to(folder):
            found[int(entry.name)] = line
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(port: int, path: str) -> tuple[int, str]:
    """GET from this machine: the status and the body."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


class Start(Protocol):
    def __call__(self, argv: list[str], *, cwd: Path, **env: str) -> Started: ...


class Launch(Protocol):
    def __call__(self, *arguments: str, **env: str) -> Started: ...


@dataclass
class Started:
    """A program under test: its process and what it has said so far."""

    process: subprocess.Popen[bytes]
    output_file: Path
    started_at: float = field(default_factory=time.monotonic)

    @property
    def output(self) -> str:
        return self.output_file.read_text()

    def age_s(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.started_at

    def wait_for(self, text: str, *, timeout_s: float = 30.0) -> None:
        def said_or_ended() -> bool:
            return text in self.output or self.process.poll() is not None

        wait_until(said_or_ended, f"{text!r} in {self.output!r}", timeout_s)
        assert text in self.output, self.output

    def signal_and_time(self, signum: int) -> float:
        """Send a signal and return the seconds until the process has ended."""
        begun = time.monotonic()
        self.process.send_signal(signum)
        self.process.wait(timeout=20)
        return time.monotonic() - begun


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a space and a capital in its path. Whatever still runs in it is a failure."""
    folder = tmp_path / "My Folder"
    folder.mkdir()
    yield folder
    left = processes_in(folder)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


@pytest.fixture
def start(tmp_path: Path, folder: Path) -> Iterator[Start]:
    """Start a program in a session of its own, as a terminal would, and end it after the test.

    Needs `folder` only so as to be torn down before it."""
    all_started: list[Started] = []

    def start_program(argv: list[str], *, cwd: Path, **env: str) -> Started:
        output_file = tmp_path / f"output-{len(all_started)}"
        with output_file.open("wb") as output:
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=clean_env(**{"PYTHONPATH": str(ROOT), **env}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started = Started(process, output_file)
        all_started.append(started)
        return started

    yield start_program
    for started in all_started:
        if started.process.poll() is None:
            started.process.terminate()
            started.process.wait(timeout=20)


@pytest.fixture
def launch(start: Start, folder: Path) -> Launch:
    """Start `python -m launcher ARGUMENTS` in the folder."""

    def start_launcher(*arguments: str, **env: str) -> Started:
        return start([sys.executable, "-m", "launcher", *arguments], cwd=folder, **env)

    return start_launcher
