"""`launcher run`: a command with Postgres and Valkey around it. `launcher services`: just those."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from launcher.children import Child
from launcher.console import say, stage
from launcher.errors import StopRequested
from launcher.services import plan_services
from launcher.state import open_state, open_temporary_state
from launcher.supervisor import Supervisor


def run_command(command: list[str], *, state_path: Path | None, follow_parent: bool) -> int:
    """Run `command` with DATABASE_URL and REDIS_URL set and return its exit code.

    Without a state path the servers' data lives in a temporary folder, is fast rather than safe,
    and is gone afterwards."""
    state = open_state(state_path, say=say) if state_path else open_temporary_state()
    try:
        with Supervisor(state, follow_parent=follow_parent) as supervisor:
            services = plan_services(state, os.environ, throwaway=state_path is None)
            supervisor.add(*services.children)
            cwd = Path.cwd()
            return supervisor.run_here(
                # A test suite may need a moment to end its own children.
                Child("command", command, env=services.env, cwd=cwd, stop="TERM:5.0")
            )
    except StopRequested as order:
        return 128 + int(order.args[0])
    finally:
        state.close()
        if state_path is None:
            shutil.rmtree(state.path, ignore_errors=True)


def run_services(*, state_path: Path, follow_parent: bool) -> int:
    """Run the two servers on the state folder until told to stop."""
    state = open_state(state_path, say=say)
    try:
        with Supervisor(state, follow_parent=follow_parent) as supervisor:
            services = plan_services(state, os.environ)
            with stage(", ".join(child.name for child in services.children) or "nothing to start"):
                supervisor.add(*services.children)
            for name in ("DATABASE_URL", "REDIS_URL"):
                say(f"{name}={services.env[name]}")
            supervisor.watch()
    except StopRequested:
        say("Stopped.")
    finally:
        state.close()
    return 0
