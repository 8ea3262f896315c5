"""Izvor as it runs, with many VMs in its database, for the length of one benchmark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

from benchmarks.load import Caller
from launcher.ports import remembered_port
from launcher.state import open_temporary_state
from tests.stack import Makeup, Stack

# VMs of the simulated cluster; those of the lists stand in the database alone.
GUESTS, NODES = 10_000, 20
# Projects by the number of VMs that each owns, all in one table.
OWNERS = (1_000, 10_000, 100_000)
MAKEUP = Makeup(
    settings="benchmarks.settings",
    auth="token",
    simulator=(
        *("--vms", str(GUESTS), "--speed", "20"),
        *("--nodes", ",".join(f"node{number}" for number in range(1, NODES + 1))),
    ),
    workers=("worker-1",),
    # Counted as in production, but never too many.
    env=(("IZVOR_RATE_REQUESTS", "1000000"), ("IZVOR_RATE_TOKENS", "1000000")),
)


class Site:
    """The servers, started when a row first wants them, and tokens by project."""

    def __init__(self, stack: Stack, metrics_port: int) -> None:
        self.stack = stack
        # Where the worker tells what it has done.
        self.metrics_port = metrics_port

    @cached_property
    def web(self) -> int:
        """The web process's port."""
        self.stack.start("web")
        return self.stack.web_port

    def pause_web(self) -> None:
        """The next row that wants the web process gets a fresh one."""
        self.stack.parts["web"].stop()
        self.__dict__.pop("web", None)

    @cached_property
    def tokens(self) -> dict[int, str]:
        """A member's token of each of the projects with many VMs."""
        from benchmarks.rows import fill

        return {count: fill(count) for count in OWNERS}

    @cached_property
    def operator(self) -> str:
        """An operator's token."""
        from accounts.actors import OPERATOR
        from accounts.models import ApiToken, Project

        project, _ = Project.objects.get_or_create(name="default")
        return ApiToken.objects.issue(name="bench", project=project, role=OPERATOR)[1]

    def caller(self, owner: int) -> Caller:
        """Of the project that owns so many VMs."""
        token = self.tokens[owner]
        return Caller(self.web, token)


@contextmanager
def open_site() -> Iterator[Site]:
    state = open_temporary_state()
    port = remembered_port(state.path / "metrics.port", host="127.0.0.1", first=19100)
    env = (*MAKEUP.env, ("IZVOR_WORKER_METRICS_PORT", str(port)))
    stack = Stack(state, 1, replace(MAKEUP, env=env))
    try:
        stack.start("postgres", "valkey", "simulator")
        stack.prepare()
        os.environ.update(stack.env)
        import django

        django.setup()
        yield Site(stack, port)
    finally:
        stack.__exit__()
        state.close()
        shutil.rmtree(state.path, ignore_errors=True)
