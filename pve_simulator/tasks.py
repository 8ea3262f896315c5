"""The task engine: workers that take simulated time, write logs and end with an exit status.

A worker is a coroutine that gets its `Job`. What it raises as `PveError` becomes the exit status;
`Job.on_failure` registers what a real worker would clean up when it fails or is aborted. A worker
that is *killed* cleans up nothing and ends as "unexpected status".
"""

from __future__ import annotations

import asyncio
import re
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator

from .clock import Clock
from .errors import PveError, bad_parameter
from .world import TaskRecord, World

ABORT_GRACE_S = 5.0
ABORT_POLL_S = 2.0
# In real time: whoever stopped the simulator waits for it.
SHUTDOWN_S = 2.0
KEPT_TASKS = 4000
UNEXPECTED = "unexpected status"

_UPID = re.compile(
    r"UPID:([a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):"
    r"([0-9A-Fa-f]{8}):([^:\s]+):([^:\s]*):([^:\s]+):\Z"
)

Worker = Callable[["Job"], Awaitable[None]]
CleanUp = Callable[[], Awaitable[None]]


class Job:
    """A running task as its worker sees it."""

    def __init__(self, record: TaskRecord, clock: Clock) -> None:
        self.record = record
        self.is_killed = False
        self.abort_text = "received interrupt"
        self.dies_after_s: float | None = None
        self._clock = clock
        self._slept_s = 0.0
        self._clean_ups: list[CleanUp] = []

    def say(self, line: str) -> None:
        self.record.log.append(line)

    def warn(self, line: str) -> None:
        self.record.log.append(f"WARN: {line}")
        self.record.warnings += 1

    def timestamp(self) -> str:
        """Now, as logs write it."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self._clock.now()))

    async def sleep(self, simulated_s: float) -> None:
        """Work that takes so long; a worker that is to die within it does."""
        left_s = None if self.dies_after_s is None else self.dies_after_s - self._slept_s
        if left_s is not None and left_s <= simulated_s:
            await self._clock.sleep(max(0.0, left_s))
            self.die()
        await self._clock.sleep(simulated_s)
        self._slept_s += simulated_s

    def die(self) -> None:
        """As by SIGKILL: nothing of what was registered is cleaned up."""
        self.is_killed = True
        raise asyncio.CancelledError

    def on_failure(self, clean_up: CleanUp) -> None:
        """Run when the task fails or is aborted, last registered first; never when it is killed."""
        self._clean_ups.append(clean_up)

    async def clean_up(self) -> None:
        while self._clean_ups:
            await self._clean_ups.pop()()


class TaskEngine:
    """Starts tasks and keeps their records; `on_change` is told of every start and end."""

    def __init__(self, world: World, clock: Clock, on_change: Callable[[], None]) -> None:
        self._world = world
        self._clock = clock
        self._on_change = on_change
        self._jobs: dict[str, tuple[Job, asyncio.Task[None]]] = {}
        self.forced_warnings: list[tuple[str, str]] = []
        self.forced_failures: list[tuple[str, str]] = []
        self.planned_kills: list[tuple[str, float]] = []

    def start(self, *, node: str, kind: str, id: str, user: str, worker: Worker) -> str:
        """Begin a task and answer its UPID at once."""
        record = self._new_record(node=node, kind=kind, id=id, user=user)
        job = Job(record, self._clock)
        runner = asyncio.get_running_loop().create_task(self._run(job, worker))
        self._jobs[record.upid] = (job, runner)
        self._plan_kill(job)
        self._on_change()
        return record.upid

    def _plan_kill(self, job: Job) -> None:
        """By the work it has done and not by a clock: on a busy machine, too, it dies there."""
        for entry in self.planned_kills:
            if entry[0] in (job.record.type, "*"):
                self.planned_kills.remove(entry)
                job.dies_after_s = entry[1]
                return

    def _new_record(self, *, node: str, kind: str, id: str, user: str) -> TaskRecord:
        now = self._clock.now()
        pid = self._world.allocate_pid()
        booted_at = self._world.nodes[node].booted_at
        pstart = int((now - booted_at) * 100) & 0xFFFFFFFF
        upid = f"UPID:{node}:{pid:08X}:{pstart:08X}:{int(now):08X}:{kind}:{id}:{user}:"
        record = TaskRecord(upid, node, pid, pstart, int(now), kind, id, user)
        self._world.tasks[upid] = record
        if len(self._world.tasks) > KEPT_TASKS:
            self._forget_oldest()
        return record

    def _forget_oldest(self) -> None:
        for upid, record in list(self._world.tasks.items())[: KEPT_TASKS // 10]:
            if not record.is_running:
                del self._world.tasks[upid]

    async def _run(self, job: Job, worker: Worker) -> None:
        record = job.record
        status = UNEXPECTED
        try:
            status = await self._work(job, worker)
        except asyncio.CancelledError:
            if not job.is_killed:
                raise
        finally:
            self._end(record, status)
            self._jobs.pop(record.upid, None)

    async def _work(self, job: Job, worker: Worker) -> str:
        try:
            forced = self._take_forced(self.forced_failures, job.record.type)
            if forced is not None:
                raise PveError(forced)
            await worker(job)
            if job.dies_after_s is not None:
                job.die()
        except asyncio.CancelledError:
            if job.is_killed:
                raise
            await job.clean_up()
            return job.abort_text
        except PveError as error:
            await job.clean_up()
            return _one_line(error.text)
        except Exception as error:  # noqa: BLE001 (a bug of the simulator must not hang its client)
            traceback.print_exc()
            await job.clean_up()
            return f"simulator bug: {error!r}"
        warning = self._take_forced(self.forced_warnings, job.record.type)
        if warning is not None:
            job.warn(warning)
        return f"WARNINGS: {job.record.warnings}" if job.record.warnings else "OK"

    @staticmethod
    def _take_forced(forced: list[tuple[str, str]], kind: str) -> str | None:
        for entry in forced:
            if entry[0] in (kind, "*"):
                forced.remove(entry)
                return entry[1]
        return None

    def _end(self, record: TaskRecord, status: str) -> None:
        record.endtime = int(self._clock.now())
        record.exitstatus = status
        if status == "OK" or status.startswith("WARNINGS: "):
            record.log.append(f"TASK {status}")
        elif status != UNEXPECTED:
            record.log.append(f"TASK ERROR: {status}")
        self._on_change()

    def find(self, node: str, upid: str) -> TaskRecord:
        """A known task of this node, else the 400 that Proxmox gives."""
        parsed = _UPID.match(upid)
        if parsed is None:
            raise bad_parameter("upid", "unable to parse worker upid")
        record = self._world.tasks.get(upid)
        if record is None or record.node != node:
            raise bad_parameter("upid", "no such task")
        return record

    async def abort(self, record: TaskRecord) -> None:
        """As DELETE does: interrupt, look every two seconds, kill what is left after five."""
        entry = self._jobs.get(record.upid)
        if entry is None:
            return
        _, runner = entry
        runner.cancel()
        waited_s = 0.0
        while waited_s < ABORT_GRACE_S and not runner.done():
            await self._clock.sleep(ABORT_POLL_S)
            waited_s += ABORT_POLL_S
        if not runner.done():
            self.kill(record.upid)
        await asyncio.wait([runner])

    def kill(self, upid: str) -> bool:
        """The worker process dies: no clean-up, the VM's `lock` property stays."""
        entry = self._jobs.get(upid)
        if entry is None:
            return False
        job, runner = entry
        job.is_killed = True
        runner.cancel()
        return True

    def running(self) -> Iterator[TaskRecord]:
        for job, _ in self._jobs.values():
            yield job.record

    async def interrupt(self) -> None:
        """As on a node that shuts down: all workers undo what they had begun, and who needs longer
        for that than SHUTDOWN_S is killed."""
        runners = [runner for _, runner in self._jobs.values()]
        for runner in runners:
            runner.cancel()
        if runners:
            await asyncio.wait(runners, timeout=SHUTDOWN_S)
        await self.close()

    async def close(self) -> None:
        """End all workers as if their processes had been killed."""
        runners = [runner for _, runner in self._jobs.values()]
        for upid in list(self._jobs):
            self.kill(upid)
        if runners:
            await asyncio.wait(runners)


def _one_line(text: str) -> str:
    return text.strip().replace("\n", " ")
