"""The examples, run as a reader would, against all of Izvor as it is served."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Stack, running_stack

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as stack:
        yield stack


def run(stack: Stack, *command: str) -> str:
    env = {**os.environ, "IZVOR_URL": stack.url.removesuffix("/api/v1"), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_vms_life_by_curl(stack):
    said = run(stack, "sh", str(EXAMPLES / "a_vms_life.sh"))
    assert "running on pve" in said
    for step in ("Snapshot", "Reboot", "Stop", "Roll back", "Start"):
        assert f"{step}: succeeded" in said
    assert "Resize: 4 cores" in said
    assert said.count("is deleted") == 2


def test_web_servers_in_python(stack):
    said = run(stack, sys.executable, str(EXAMPLES / "web_servers.py"))
    assert said.count("is running on pve") == 3
    assert said.count(": succeeded") == 6
