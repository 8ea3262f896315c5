"""TCP ports: free, taken, remembered."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import tempfile
from pathlib import Path

from launcher.errors import LaunchError
from launcher.state import write_private


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now. Raises LaunchError when the address is not ours."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a port whose last connections linger in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise LaunchError(f"Cannot listen on {host}:{port}: {error.strerror}.") from error
    return True


def read_port(name: str, text: str) -> int:
    """Raises LaunchError, naming the variable, when `text` is no port number."""
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 65535:
        return int(text)
    raise LaunchError(f"{name} must be a port number from 1 to 65535, not {text!r}.")


def remembered_port(file: Path, *, host: str, first: int) -> int:
    """The port of the last start if it is still free, else the first free one from `first` up.

    It stays ours until this process ends, also before somebody listens there."""
    try:
        port = int(file.read_text())
        if 1 <= port <= 65535 and is_free(host, port) and _reserve(port):
            return port
    except (OSError, ValueError):
        pass
    for port in range(first, first + 1000):
        if is_free(host, port) and _reserve(port):
            write_private(file, f"{port}\n")
            return port
    raise LaunchError(f"No port from {first} to {first + 999} is free on {host}.")


def _reserve(port: int) -> bool:
    """Keep other launchers, of other checkouts, off this port: two that start at the same moment
    would both find it free."""
    file = Path(tempfile.gettempdir()) / f"izvor-port-{port}"
    try:
        # Another user's file may be locked but, in a folder like /tmp, not be opened to create.
        flags = os.O_RDONLY if file.exists() else os.O_RDONLY | os.O_CREAT
        descriptor = os.open(file, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True  # left open on purpose: the lock lasts as long as we do
