"""A simulator inside a test process: its own thread, its own event loop, a free port.

with SimulatorThread(speed=50) as sim:
    client = connect(sim.url, token=(sim.token_id, sim.token_secret), ca=sim.ca_file)
    …
    assert sim.guest(105).is_running
    assert sim.calls_to("POST", r"/clone$")
"""

from __future__ import annotations

import asyncio
import copy
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from .faults import Fault
from .options import DEFAULT_PASSWORD, DEFAULT_TOKEN_ID, DEFAULT_TOKEN_SECRET, Options
from .server import Server
from .simulator import LoggedCall, Simulator
from .world import Guest, TaskRecord, World

T = TypeVar("T")
START_TIMEOUT_S = 10.0


class SimulatorThread:
    """Takes the fields of `Options` as keywords; `port` is any free one unless given."""

    def __init__(self, **options: Any) -> None:
        self.options = Options(**({"port": 0} | options))
        self.token_id = DEFAULT_TOKEN_ID
        self.token_secret = self.options.tokens.get(DEFAULT_TOKEN_ID, DEFAULT_TOKEN_SECRET)
        self.password = self.options.password or DEFAULT_PASSWORD
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._server: Server | None = None
        self._thread = threading.Thread(target=self._run, name="pve-simulator", daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when the port is open; raises what kept it from opening."""
        self._thread.start()
        if not self._started.wait(START_TIMEOUT_S):
            raise TimeoutError("the simulator did not start")
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_TIMEOUT_S)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            self._failure = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._server = Server(Simulator(self.options))
        try:
            await self._server.start()
            self._started.set()
            await self._stop.wait()
        finally:
            await self._server.close()

    # Where and who

    @property
    def server(self) -> Server:
        if self._server is None:
            raise RuntimeError("the simulator is not started")
        return self._server

    @property
    def sim(self) -> Simulator:
        """The live object: touch it only inside `change`."""
        return self.server.sim

    @property
    def url(self) -> str:
        return self.server.url

    def url_of(self, node: str) -> str:
        """A node's own endpoint, with `has_endpoint_per_node=True`."""
        return f"https://127.0.0.1:{self.server.endpoints[node]}"

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def ca_file(self) -> Path:
        return self.sim.certificates.ca_file

    # Looking and changing, from any thread

    def change(self, action: Callable[[Simulator], T]) -> T:
        """Run `action(simulator)` in the simulator's own thread and return its result."""

        async def run() -> T:
            result = action(self.sim)
            self.sim.touch()
            return result

        if self._loop is None:
            raise RuntimeError("the simulator is not started")
        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_TIMEOUT_S)

    @property
    def world(self) -> World:
        """A copy of the whole state."""
        return self.change(lambda sim: copy.deepcopy(sim.world))

    def guest(self, vmid: int) -> Guest | None:
        """A copy of one guest, None when there is none."""
        return self.change(lambda sim: copy.deepcopy(sim.world.guests.get(vmid)))

    def guests(self) -> dict[int, Guest]:
        return self.change(lambda sim: copy.deepcopy(sim.world.guests))

    def tasks(self, kind: str | None = None) -> list[TaskRecord]:
        """Copies of all tasks, oldest first, of one type if named."""
        return self.change(
            lambda sim: [
                copy.deepcopy(record)
                for record in sim.world.tasks.values()
                if kind in (None, record.type)
            ]
        )

    @property
    def calls(self) -> list[LoggedCall]:
        """Requests since the start (or `forget_calls`), in order."""
        return self.change(lambda sim: list(sim.calls))

    def calls_to(self, method: str, path_pattern: str) -> list[LoggedCall]:
        return [
            call
            for call in self.calls
            if call.method == method and re.search(path_pattern, call.path)
        ]

    def forget_calls(self) -> None:
        self.change(lambda sim: sim.calls.clear())

    def wait_for(
        self, is_true: Callable[[Simulator], bool], *, timeout_s: float = 10.0, what: str = "it"
    ) -> None:
        """Poll the live simulator until a condition holds; TimeoutError when it does not."""
        deadline = time.monotonic() + timeout_s
        while not self.change(is_true):
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {timeout_s} s for {what}")
            threading.Event().wait(0.01)

    # Faults

    def add_fault(self, kind: str, **settings: Any) -> Fault:
        """See `faults.Fault`; `path` is a regular expression on the path after /api2/json."""
        return self.change(lambda sim: sim.faults.add(kind, **settings))

    def cause(self, accident: Callable[..., T], **arguments: Any) -> T:
        """Cause one of `accidents`: `sim.cause(accidents.node_down, node="pve2")`."""
        return self.change(lambda sim: accident(sim, **arguments))

    def clear_faults(self) -> None:
        self.change(lambda sim: sim.faults.clear())
