"""A fresh clone, `make dev`, nothing else: as whoever runs the tests, and as an ordinary user."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.launcher.conftest import (
    ROOT,
    Start,
    Started,
    clean_env,
    free_port,
    get,
    processes_in,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

READY = "Ctrl-C stops everything."
#: A user without a name, a home or a right to anything, as a container may give us.
ORDINARY_USER = 23456
NEW_ENOUGH = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"


def as_ordinary_user(command: list[str]) -> list[str]:
    user = str(ORDINARY_USER)
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *command]


def as_we_are(command: list[str]) -> list[str]:
    return command


def can_run_python() -> bool:
    """Whether an ordinary user reaches a Python: root's own may lie in its closed home."""
    command = as_ordinary_user(["python3", "-c", NEW_ENOUGH])
    env = clean_env(PATH="/usr/local/bin:/usr/bin:/bin")
    return subprocess.run(command, env=env, capture_output=True).returncode == 0


@pytest.fixture
def home() -> Iterator[Path]:
    """Not in pytest's temporary folder, which it closes to other users."""
    home = Path(tempfile.mkdtemp(prefix="izvor test ")) / "My Folder"
    home.mkdir()
    home.parent.chmod(0o755)
    yield home
    for pid in (left := processes_in(home)):
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(home.parent, ignore_errors=True)
    assert not left


@pytest.fixture(params=["as we are", "as an ordinary user"])
def make(request, home: Path, start: Start):
    """Run `make TARGET` in a fresh clone; the first time it also installs."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(home / "izvor")], check=True)
    env: dict[str, str] = {}
    wrap = as_we_are
    if request.param == "as an ordinary user":
        if os.geteuid() != 0:
            pytest.skip("we are an ordinary user already")
        if not can_run_python():
            pytest.skip("no Python 3.11 that an ordinary user may run")
        wrap = as_ordinary_user
        env = {"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"}
        subprocess.run(["chown", "-R", str(ORDINARY_USER), str(home)], check=True)

    def start_make(target: str, port: int = 0) -> Started:
        return start(wrap(["make", target]), cwd=home / "izvor", IZVOR_PORT=str(port), **env)

    return start_make


def crowding() -> float:
    """1 on a machine with cores to spare; above it by how much the others make us wait."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def press_ctrl_c(started: Started) -> float:
    """As a terminal does it: to the whole foreground group. Returns the seconds until all ended."""
    begun = time.monotonic()
    os.killpg(started.process.pid, signal.SIGINT)
    started.process.wait(timeout=20)
    return time.monotonic() - begun


def test_make_dev_in_a_fresh_clone(make, home: Path):
    port = free_port()
    first = make("dev", port)
    first.wait_for(READY, timeout_s=300)
    status, health = get(port, "/health")
    assert status == 200, health
    assert json.loads(health)["status"] == "healthy"
    listed = json.loads(get(port, "/api/v1/templates")[1])
    names = {template["name"] for template in listed["templates"]}
    assert names == {"ubuntu-22.04", "debian-12", "rocky-9"}
    assert press_ctrl_c(first) < 3.0
    assert "Traceback" not in first.output
    assert not processes_in(home)

    second = make("dev", port)
    second.wait_for(READY, timeout_s=60)
    second_took_s = second.age_s()

    # kill -9 of make itself, the harshest that can be done to it.
    second.process.kill()
    second.process.wait()
    wait_until(lambda: not processes_in(home), seconds=10)

    third = make("dev", port)
    third.wait_for(READY, timeout_s=60)
    assert min(second_took_s, third.age_s()) < 8.0 * crowding(), third.output
    assert "is started again" not in third.output
    assert get(port, "/api/v1/templates")[0] == 200
    too_early = make("clean")
    assert too_early.process.wait(timeout=30) != 0
    assert "already runs" in too_early.output
    assert press_ctrl_c(third) < 3.0

    assert make("clean").process.wait(timeout=30) == 0
    assert not (home / "izvor" / ".izvor").exists()
    assert not (home / "izvor" / ".venv").exists()
