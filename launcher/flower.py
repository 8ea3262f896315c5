"""`launcher flower`: Celery's monitor in the browser, for the Izvor that runs on a state folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

from launcher.console import say
from launcher.errors import LaunchError
from launcher.ports import is_free, read_port
from launcher.services import ROOT
from launcher.state import StateFolder
from launcher.valkey import SOCKET, answers

# Whoever reaches Flower may stop workers: it gets no other address here.
HOST = "127.0.0.1"


def run_flower(*, state_path: Path) -> int:
    """Become Flower, on the broker of the running `make dev` or of REDIS_URL.

    Raises LaunchError."""
    port = read_port("IZVOR_FLOWER_PORT", os.environ.get("IZVOR_FLOWER_PORT") or "5555")
    env = flower_env(state_path)
    if not is_free(HOST, port):
        raise LaunchError(
            f"Port {port} on {HOST} is in use: stop what listens there, or choose another port, "
            f"for example IZVOR_FLOWER_PORT={port + 1}."
        )
    say(f"Flower is on http://{HOST}:{port}; Ctrl-C stops it.")
    os.chdir(ROOT)
    command = [sys.executable, "-m", "celery", "--app", "izvor_project", "flower"]
    os.execve(sys.executable, [*command, f"--address={HOST}", f"--port={port}"], env)


def flower_env(state_path: Path) -> dict[str, str]:
    """What Izvor's settings insist on. Flower reads the broker only."""
    env = {
        "IZVOR_SECRET_KEY": "flower-signs-nothing",
        "DATABASE_URL": "postgres://unused@localhost/unused",
        **os.environ,
    }
    if env.get("REDIS_URL"):
        return env
    # Not opened: the lock on the folder is `make dev`'s. Spelled as there, since the sockets' place
    # may depend on it.
    state_path = Path(os.path.abspath(state_path.expanduser()))  # noqa: PTH100
    socket = StateFolder(state_path, -1).sockets() / SOCKET if state_path.is_dir() else None
    if socket is None or not answers(socket):
        raise LaunchError(
            f"Nothing runs on {state_path}: start `make dev` first, or name a broker by REDIS_URL."
        )
    return env | {"REDIS_URL": f"unix://{quote(str(socket))}?db=0"}
