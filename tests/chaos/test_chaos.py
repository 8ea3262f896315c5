"""A minute of chaos: every plug is pulled, and nothing is lost, doubled or left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_minute_of_chaos_breaks_no_promise(tmp_path):
    command = [sys.executable, "-m", "tests.chaos", "--seconds", "60", "--requests", "200"]
    command += ["--seed", "7", "--logs", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken promises" in done.stdout
    assert "succeeded" in done.stdout, "nothing was done at all"
