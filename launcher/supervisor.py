"""Starts children, sees that they stay, and ends them.

A child that dies is started again after a short pause. One that dies FATAL_DEATHS times in a row
without living SETTLED_S seconds ends everything, with the last lines of its log.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

from launcher.children import Child, Running, start
from launcher.console import say
from launcher.errors import LaunchError, StopRequested
from launcher.logs import last_lines
from launcher.state import StateFolder

FATAL_DEATHS = 5
SETTLED_S = 10.0
BACK_OFF_S = (0.2, 0.5, 1.0, 2.0)
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Kept:
    """A child with its history: `running` is None while it waits for its next start."""

    child: Child
    running: Running | None = None
    deaths: int = 0
    start_at: float = 0.0
    is_ready: bool = False
    was_ready: bool = False


class Supervisor:
    """Use as a context manager: leaving it ends every child, those added last first.

    Children added in one `add` call start together and end together. Must live in the main thread,
    whose signal handlers it takes.
    """

    def __init__(self, state: StateFolder, *, follow_parent: bool = False) -> None:
        """With `follow_parent` the death of the process that started us (make, say) is an order to
        stop: a kill -9 of `make dev` would otherwise leave everything running."""
        self._state = state
        self._tiers: list[list[_Kept]] = []
        self._passing: list[Running] = []
        self._stop_signal: int | None = None
        self._parent = os.getppid() if follow_parent else None
        self._wake_read, self._wake_write = os.pipe()

    def __enter__(self) -> Supervisor:
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for signum in STOP_SIGNALS:
            signal.signal(signum, self._note_stop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(self._passing)
        for tier in reversed(self._tiers):
            self._end([kept.running for kept in tier if kept.running])
        # The handlers stay: a late Ctrl-C must not break the clean-up that follows us.
        signal.set_wakeup_fd(-1)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def add(self, *children: Child) -> None:
        """Start these together and return when all of them are ready.

        Raises LaunchError when one cannot be started, StopRequested when we were told to end."""
        tier = [_Kept(child) for child in children]
        self._tiers.append(tier)
        while not all(kept.is_ready for kept in tier):
            self._turn()
            self._pause(0.03)

    def run(self, child: Child) -> None:
        """Run a program to its end. Raises LaunchError, with what it said, when it fails."""
        with self._pass(self._spawn(child)) as running:
            while (code := running.exit_code()) is None:
                self._turn()
                self._pause(0.2)
        if code:
            said = last_lines(self._log(child), since=running.log_start)
            raise LaunchError("\n".join([f"{child.name} failed (exit code {code}):", *said]))

    def run_here(self, child: Child) -> int:
        """Run a program on our own terminal to its end and return its exit code.

        Ctrl-C reaches it by itself, and is its own to judge; other orders to stop are passed on."""
        keep = [self._state.lock_descriptor]
        with self._pass(start(child, log=None, keep_open=keep, foreground=True)) as running:
            while (code := running.exit_code()) is None:
                if self._stop_signal == signal.SIGINT:
                    self._stop_signal = None
                self._turn()
                self._pause(0.2)
        return code

    def watch(self) -> None:
        """Keep all children alive until StopRequested or LaunchError is raised."""
        while True:
            self._turn()
            everyone_ready = all(kept.is_ready for tier in self._tiers for kept in tier)
            self._pause(0.5 if everyone_ready else 0.05)

    # One turn: orders first, then each child's state.

    def _turn(self) -> None:
        if self._parent is not None and os.getppid() != self._parent:
            self._stop_signal = signal.SIGTERM
        if self._stop_signal is not None:
            raise StopRequested(self._stop_signal)
        for tier in self._tiers:
            for kept in tier:
                self._tend(kept)

    def _tend(self, kept: _Kept) -> None:
        now = time.monotonic()
        if kept.running is None:
            if now >= kept.start_at:
                if kept.child.before_start:
                    kept.child.before_start()
                kept.running = self._spawn(kept.child)
            return
        code = kept.running.exit_code()
        if code is not None:
            self._mourn(kept, code)
        elif not kept.is_ready:
            kept.is_ready = self._is_ready(kept.running)
            kept.was_ready |= kept.is_ready
            if kept.is_ready and kept.deaths:
                say(f"{kept.child.name} runs again.")
            elif not kept.is_ready and now - kept.running.started_at > kept.child.ready_timeout_s:
                what = f"{kept.child.name} was not ready after {kept.child.ready_timeout_s:.0f} s."
                raise self._failure(kept.running, what)

    def _is_ready(self, running: Running) -> bool:
        child = running.child
        if child.ready_words:
            said = last_lines(self._log(child), 1000, since=running.log_start)
            return any(child.ready_words in line for line in said)
        return child.ready is None or child.ready()

    def _mourn(self, kept: _Kept, code: int) -> None:
        assert kept.running is not None
        ended, kept.running = kept.running, None
        ended.let_go()
        settled = kept.is_ready and time.monotonic() - ended.started_at >= SETTLED_S
        kept.is_ready = False
        kept.deaths = 1 if settled else kept.deaths + 1
        if kept.deaths >= FATAL_DEATHS:
            verb = "keeps dying" if kept.was_ready else "cannot be started"
            what = f"{kept.child.name} {verb}: it ended {kept.deaths} times in a row."
            raise self._failure(ended, f"{what} {kept.child.advice}".strip())
        kept.start_at = time.monotonic() + BACK_OFF_S[kept.deaths - 1]
        if not kept.was_ready:
            return  # one sentence in the end, if all tries fail, says it better than five
        how = f"signal {code - 128}" if code > 128 else f"exit code {code}"
        said = last_lines(self._log(kept.child), 3, since=ended.log_start)
        say(f"{kept.child.name} ended ({how}) and is started again.{' It said last:' * bool(said)}")
        for line in said:
            say(f"    {line}")

    def _failure(self, running: Running, what: str) -> LaunchError:
        log = self._log(running.child)
        said = last_lines(log, since=running.log_start)
        return LaunchError("\n".join([what, f"The end of {log}:", *said]))

    # Processes.

    def _spawn(self, child: Child) -> Running:
        return start(child, log=self._log(child), keep_open=[self._state.lock_descriptor])

    def _log(self, child: Child) -> Path:
        return self._state.logs / f"{child.name}.log"

    @contextmanager
    def _pass(self, running: Running) -> Iterator[Running]:
        """While inside, the process is ended with the others; after it, it has ended by itself."""
        self._passing.append(running)
        yield running
        self._passing.remove(running)
        running.let_go()

    def _end(self, all_running: Sequence[Running]) -> None:
        for running in all_running:
            running.let_go()
        for running in all_running:
            running.wait_for_end()

    # Signals.

    def _note_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stop_signal = signum

    def _pause(self, longest_s: float) -> None:
        """Wait, but not past a signal: a child's end or an order to stop."""
        ready, _, _ = select.select([self._wake_read], [], [], longest_s)
        if ready:
            os.read(self._wake_read, 512)
