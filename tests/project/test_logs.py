"""What a log line may hold."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import logging
from izvor_project import logs
logs.configure("{log_format}", "INFO")

def fail():
    password = "a planted " + "secret"
    raise ValueError("what went wrong")

try:
    fail()
except ValueError:
    logging.getLogger("a.package").exception("it failed")
"""


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_shows_no_local_variable(log_format):
    """Pretty tracebacks print what the variables hold, passwords among it."""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(log_format=log_format)],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "what went wrong" in ran.stderr
    assert "in fail" in ran.stderr
    assert "a planted secret" not in ran.stderr
