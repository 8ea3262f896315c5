"""Host names to addresses, within a deadline: `getaddrinfo` itself knows none."""

from __future__ import annotations

import ipaddress
import queue
import socket
import threading
from collections.abc import Callable
from typing import Any

Address = tuple[Any, ...]
Found = tuple[socket.AddressFamily, Address]


def look_up(host: str, port: int) -> list[Found]:
    """What the system says, in its own time."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def resolve(
    host: str,
    port: int,
    timeout_s: float,
    *,
    look_up: Callable[[str, int], list[Found]] = look_up,
) -> list[Found]:
    """The addresses of `host`, in the order in which to try them.

    Raises TimeoutError when the name servers take longer, OSError for an unknown name. A lookup
    that is given up ends by itself, in a thread that keeps nobody from exiting.
    """
    if _is_literal(host):
        return look_up(host, port)
    answer: queue.SimpleQueue[list[Found] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(look_up(host, port))
        except (OSError, UnicodeError) as error:
            answer.put(error)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    try:
        found = answer.get(timeout=timeout_s)
    except queue.Empty:
        raise TimeoutError(f"the name {host} was not resolved in time") from None
    if isinstance(found, Exception):
        raise OSError(f"the name {host} is not known") from found
    return found


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
