"""A child process as data, and the handle of a running one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.logs import open_log

#: Past its own stop list a guard needs a moment to clear the child's group away.
GUARD_SLACK_S = 0.8
GUARD = Path(__file__).with_name("guard.py")


@dataclass(frozen=True)
class Child:
    """One program the launcher keeps alive.

    `ready` answers True once the child does its work; `ready_words` are what its log says then.
    With neither it counts as ready as soon as it runs.
    `before_start` runs before each start, the restarts too, and may raise LaunchError.
    `stop` is the guard's list of signals and patience in seconds, see guard.py.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    ready: Callable[[], bool] | None = None
    ready_words: str = ""
    before_start: Callable[[], None] | None = None
    stop: str = "TERM:1.0"
    ready_timeout_s: float = 60.0
    #: What to do about it, said when it cannot be started at all.
    advice: str = ""


@dataclass
class Running:
    """A started child: its guard, and the lifeline that holds both alive."""

    child: Child
    guard: subprocess.Popen[bytes]
    lifeline: int
    #: Where in the log file its own words begin.
    log_start: int = 0
    started_at: float = field(default_factory=time.monotonic)

    def exit_code(self) -> int | None:
        """None while it runs; else the child's code, 128 + N for a signal."""
        code = self.guard.poll()
        return 128 - code if code is not None and code < 0 else code

    def let_go(self) -> None:
        """Ask for the stop; the guard does it. Does not wait."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def wait_for_end(self) -> None:
        """Wait until the guard has ended the child, no longer than its stop list allows. Should the
        guard itself hang it is killed, and the child with it (on Linux, by the kernel)."""
        patience_s = sum(float(step.split(":")[1]) for step in self.child.stop.split(","))
        try:
            self.guard.wait(timeout=patience_s + GUARD_SLACK_S)
        except subprocess.TimeoutExpired:
            self.guard.kill()
            self.guard.wait()


def start(
    child: Child, *, log: Path | None, keep_open: Sequence[int] = (), foreground: bool = False
) -> Running:
    """Start `child` under a guard. `keep_open` are descriptors for the guard, not the child."""
    read_end, write_end = os.pipe()
    command = [
        *(sys.executable, "-I", "-S", str(GUARD), str(read_end)),
        *("foreground" if foreground else "session", child.stop, "--", *child.argv),
    ]
    output = open_log(log) if log else None
    log_start = os.fstat(output.fileno()).st_size if output else 0
    try:
        guard = subprocess.Popen(
            command,
            cwd=child.cwd,
            env=dict(child.env),
            stdin=None if foreground else subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(read_end, *keep_open),
            start_new_session=not foreground,
        )
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
        if output:
            output.close()
    return Running(child=child, guard=guard, lifeline=write_end, log_start=log_start)
