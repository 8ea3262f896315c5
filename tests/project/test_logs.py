"""What a log line may hold."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from django.http import HttpRequest, HttpResponse

from izvor_project.middleware import RequestIdMiddleware

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


def test_a_path_is_logged_as_it_came(caplog):
    """A raw NUL makes a log a binary file, in which grep finds nothing."""
    request = HttpRequest()
    request.method, request.path = "GET", "/api/v1/vms/\0\x1b"
    with caplog.at_level("INFO"):
        RequestIdMiddleware(lambda _: HttpResponse())(request)
    assert [record.msg["path"] for record in caplog.records] == ["/api/v1/vms/%00%1B"]
