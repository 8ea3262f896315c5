"""The supervisor with tiny children."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.launcher.conftest import processes_in
from tests.waiting import wait_until

SUPERVISE = str(Path(__file__).with_name("supervise.py"))
SLEEP = "import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEP}"
WITH_GRANDCHILD = f"import os; os.fork(); {SLEEP}"


@pytest.fixture
def supervise(start, folder):
    def start_supervisor(*tiers, options=()):
        state = folder / "state"
        argv = [sys.executable, SUPERVISE, str(state), json.dumps(tiers), *options]
        return start(argv, cwd=folder)

    return start_supervisor


def pids(folder: Path, code: str) -> list[int]:
    """The processes that run this code, without the guards that hold them."""
    return [
        pid
        for pid, line in processes_in(folder).items()
        if code in line and "guard.py" not in line and SUPERVISE not in line
    ]


def test_it_starts_tiers_in_order_and_the_next_waits_until_the_last_is_ready(supervise, folder):
    mark = folder / "first is ready"
    first = f"import pathlib, time; time.sleep(0.5); pathlib.Path({str(mark)!r}).touch(); {SLEEP}"
    second = f"import pathlib; print(pathlib.Path({str(mark)!r}).exists(), flush=True); {SLEEP}"
    started = supervise(
        [{"name": "first", "code": first, "ready_file": str(mark)}],
        [{"name": "second", "code": second}],
    )
    started.wait_for("all ready")
    log = folder / "state" / "logs" / "second.log"
    wait_until(lambda: log.exists() and log.read_text())
    assert log.read_text() == "True\n"


def test_a_child_that_dies_is_started_again_and_that_is_said(supervise, folder):
    started = supervise([{"name": "sleeper", "code": SLEEP}])
    started.wait_for("all ready")
    wait_until(lambda: pids(folder, SLEEP))
    (first,) = pids(folder, SLEEP)
    os.kill(first, signal.SIGKILL)
    started.wait_for("sleeper ended (signal 9) and is started again")
    started.wait_for("sleeper runs again")
    wait_until(lambda: pids(folder, SLEEP))
    assert pids(folder, SLEEP) != [first]


def test_a_child_that_keeps_dying_ends_everything_with_its_last_words(supervise, folder):
    started = supervise(
        [{"name": "steady", "code": SLEEP}],
        [
            {
                "name": "broken",
                "code": "import sys; sys.exit('no such table')",
                "ready_file": "never",
                "advice": "Mend it.",
            }
        ],
    )
    assert started.process.wait(timeout=30) == 1
    assert "broken cannot be started: it ended 5 times in a row. Mend it." in started.output
    assert started.output.rstrip().endswith("no such table")
    assert "Traceback" not in started.output
    assert not processes_in(folder)


def test_a_child_that_never_gets_ready_ends_everything(supervise):
    row = {"name": "mute", "code": SLEEP, "ready_file": "never", "ready_timeout_s": 0.5}
    started = supervise([row])
    assert started.process.wait(timeout=30) == 1
    assert "mute was not ready after 0 s" in started.output


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_order_to_stop_ends_all_within_three_seconds(supervise, folder, signum):
    started = supervise(
        [{"name": "deaf-too", "code": DEAF, "stop": "INT:1.0,QUIT:0.4"}],
        [{"name": "deaf", "code": DEAF}, {"name": "forked", "code": WITH_GRANDCHILD}],
    )
    started.wait_for("all ready")
    wait_until(lambda: len(pids(folder, "time.sleep(600)")) == 4)
    assert started.signal_and_time(signum) < 3.0
    assert started.process.returncode == 0
    assert "stopped" in started.output
    assert not processes_in(folder)


def test_kill_9_leaves_no_orphan_and_the_next_start_is_clean(supervise, folder):
    tier = [{"name": "deaf", "code": DEAF}, {"name": "forked", "code": WITH_GRANDCHILD}]
    started = supervise(tier)
    started.wait_for("all ready")
    wait_until(lambda: len(pids(folder, "time.sleep(600)")) == 3)
    started.process.kill()
    started.process.wait()
    again = supervise(tier)
    again.wait_for("all ready")
    assert "waiting until its servers have stopped" in again.output
    # Only the new ones are there: the lock is held until the last of the old ones has gone.
    wait_until(lambda: len(pids(folder, "time.sleep(600)")) == 3)


def test_a_guard_that_is_killed_takes_its_child_along_and_both_come_back(supervise, folder):
    started = supervise([{"name": "sleeper", "code": SLEEP}])
    started.wait_for("all ready")
    wait_until(lambda: pids(folder, SLEEP))
    (child,) = pids(folder, SLEEP)
    guard = next(pid for pid, line in processes_in(folder).items() if "guard.py" in line)
    os.kill(guard, signal.SIGKILL)
    started.wait_for("sleeper runs again")
    wait_until(lambda: pids(folder, SLEEP))
    assert child not in processes_in(folder)


def test_it_stops_when_the_process_that_it_follows_is_gone(start, folder):
    """As when `make dev` itself is killed with -9."""
    table = json.dumps([[{"name": "sleeper", "code": SLEEP}]])
    argv = [sys.executable, SUPERVISE, str(folder / "state"), table, "--follow-parent"]
    script = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    parent = start([sys.executable, "-c", script, *argv], cwd=folder)
    parent.wait_for("all ready")
    parent.process.kill()
    parent.process.wait()
    wait_until(lambda: not processes_in(folder), seconds=5)


def test_children_get_no_signal_from_the_terminal(supervise, folder):
    """Ctrl-C goes to the whole foreground group; the order of the stop is ours to keep."""
    loud = (
        f"import signal; signal.signal(signal.SIGINT, lambda *_: print('hit', flush=True)); {SLEEP}"
    )
    started = supervise([{"name": "loud", "code": loud}])
    started.wait_for("all ready")
    wait_until(lambda: pids(folder, "hit"))
    os.killpg(started.process.pid, signal.SIGINT)
    started.process.wait(timeout=10)
    assert (folder / "state" / "logs" / "loud.log").read_text() == ""
