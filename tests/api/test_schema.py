"""The OpenAPI description is true: odd requests by the thousand, each answer held to it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.stack import Stack, running_stack

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running_stack() as stack:
        yield stack


def test_no_answer_is_an_error_of_ours_or_other_than_described(stack):
    url = stack.url.removesuffix("/api/v1")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/api/schema"]
    command += ["--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"]
    command += ["--max-examples", "15", "--seed", "1", "--continue-on-failure"]
    # The stream of events has no end to wait for; it has tests of its own.
    command += ["--exclude-path", "/api/v1/events", "--request-timeout", "60"]
    command += ["--suppress-health-check", "all", "--warnings", "off"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=850)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
