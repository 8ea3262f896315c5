"""Keeps one child from outliving the launcher, whatever kills the launcher.

The launcher holds the write end of a pipe, the lifeline, and never writes to it. This small
process holds the read end: end-of-file means that the launcher let go, on purpose (an ordinary
stop) or because it died (kill -9), and the child is stopped in the same way both times.
PR_SET_PDEATHSIG alone would not do: it is unknown outside Linux, kills at once instead of asking
first, and says nothing about grandchildren.

Run as a file by the bare interpreter (`python -I -S guard.py`), so that it costs little:

    guard.py LIFELINE_FD MODE STOP -- ARGV...

MODE is `session` (the child leads its own session and process group; the group's stragglers are
killed after it) or `foreground` (the child shares our terminal, so that Ctrl-C reaches it).
STOP is a list such as `INT:1.2,QUIT:0.5`: signals to send in this order and seconds to wait after
each, SIGKILL in the end. The exit code is the child's, 128 + N for signal N.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> int:
    lifeline, mode, stop = int(argv[0]), argv[1], _parse_stop(argv[2])
    command = argv[argv.index("--") + 1 :]
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    os.set_inheritable(lifeline, False)
    signal.set_wakeup_fd(wake_write)
    stops: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda signum, _: stops.append(signum))
    # The terminal's signals are the launcher's to judge; here they would only end the guard first.
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(ignored, signal.SIG_IGN)

    try:
        child = _start(command, own_session=mode == "session")
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        return 127

    while child.poll() is None and not stops:
        ready, _, _ = select.select([lifeline, wake_read], [], [])
        if lifeline in ready:
            break
        os.read(wake_read, 512)
    if child.poll() is None:
        _stop(child, stop, group=mode == "session")
    if mode == "session":
        _kill_group(child.pid)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _parse_stop(text: str) -> list[tuple[signal.Signals, float]]:
    pairs = (part.split(":") for part in text.split(","))
    return [(signal.Signals[f"SIG{name}"], float(seconds)) for name, seconds in pairs]


def _start(command: list[str], *, own_session: bool) -> "subprocess.Popen[bytes]":
    with_us = _die_with_parent()

    def prepare() -> None:
        # An ignored signal stays ignored over exec: the child would be deaf to Ctrl-C.
        for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(ignored, signal.SIG_DFL)
        if with_us:
            with_us()

    # preexec_fn is safe here: this process has one thread.
    return subprocess.Popen(command, start_new_session=own_session, preexec_fn=prepare)


def _die_with_parent() -> Callable[[], object] | None:
    """On Linux a second net: should this guard itself be killed -9, the kernel kills the child."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _stop(
    child: "subprocess.Popen[bytes]", stop: list[tuple[signal.Signals, float]], *, group: bool
) -> None:
    for signum, patience_s in stop:
        child.send_signal(signum)
        try:
            child.wait(timeout=patience_s)
            return
        except subprocess.TimeoutExpired:
            continue
    if group:
        _kill_group(child.pid)
    child.kill()
    child.wait()


def _kill_group(group: int) -> None:
    """End what the child left behind in its group, and wait (briefly) until it is gone."""
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return  # nobody left (macOS says EPERM when only zombies are)
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
