"""The world on disk: one JSON file, replaced atomically a moment after a change."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import fcntl
import json
import sys
import time
import types
import typing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

from .access import AclEntry, User
from .tasks import UNEXPECTED
from .tls import write_atomically
from .world import World

if TYPE_CHECKING:
    from .simulator import Simulator

STATE_FILE = "world.json"
LOCK_FILE = "in-use"
LAYOUT = 1
DEBOUNCE_S = 0.1
RETRY_S = 5.0
COST_FACTOR = 5
"""Between two saves pass at least this many times what a save took: big worlds save less often."""


class StateError(Exception):
    """The state folder cannot be used; the message says why."""


@dataclasses.dataclass(slots=True)
class Saved:
    world: World
    access: dict[str, Any]


class Persistence:
    def __init__(self, folder: Path) -> None:
        self._file = folder / STATE_FILE
        self.is_dirty = True
        self._folder = folder
        self._lock: IO[bytes] | None = None

    def _take_folder(self) -> None:
        """One simulator a folder: held until `release` or the end of the process."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self._folder / LOCK_FILE).open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise StateError(f"another simulator uses the state folder {self._folder}") from None

    def release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def load(self) -> Saved | None:
        """What was saved, with tasks that were running then ended as `unexpected status`.

        None when there is nothing yet. StateError when the folder is in use, not writable, damaged
        or of another version.
        """
        try:
            self._take_folder()
            text = self._file.read_text()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"cannot use the state folder {self._folder}: {error}") from None
        try:
            return _parse(text)
        except (ValueError, KeyError, TypeError) as error:
            self.release()
            raise StateError(f"{self._file} is damaged ({error}); move it away") from None

    def save(self, sim: Simulator) -> None:
        self.is_dirty = False
        state = {
            "layout": LAYOUT,
            "world": encode(sim.world),
            "access": encode(sim.access.state()),
        }
        write_atomically(self._file, json.dumps(state, separators=(",", ":")).encode(), mode=0o600)

    async def save_for_ever(self, sim: Simulator) -> None:
        """After each change, and steadily while workers change things."""
        while True:
            await asyncio.sleep(DEBOUNCE_S)
            if self.is_dirty or any(sim.tasks.running()):
                began = time.monotonic()
                try:
                    self.save(sim)
                except OSError as error:
                    print(f"pve_simulator: cannot write the state: {error}", file=sys.stderr)
                    self.is_dirty = True
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep((time.monotonic() - began) * COST_FACTOR)


def _parse(text: str) -> Saved:
    raw = json.loads(text)
    if raw["layout"] != LAYOUT:
        raise ValueError(f"layout {raw['layout']} instead of {LAYOUT}")
    world = decode(World, raw["world"])
    access = {
        "key": raw["access"]["key"],
        "users": decode(dict[str, User], raw["access"]["users"]),
        "groups": raw["access"]["groups"],
        "acl": decode(list[AclEntry], raw["access"]["acl"]),
    }
    for record in world.tasks.values():
        if record.is_running:
            record.exitstatus, record.endtime = UNEXPECTED, int(time.time())
    return Saved(world, access)


def encode(value: Any) -> Any:
    """Dataclasses, sets, tuple keys and bytes as JSON."""
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {_key(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(encode(item) for item in value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def _key(key: Any) -> str:
    return "\0".join(key) if isinstance(key, tuple) else str(key)


def decode(kind: Any, value: Any) -> Any:
    """The inverse of `encode`, led by type hints."""
    origin = get_origin(kind)
    if value is None or kind is Any:
        return value
    if origin in (Union, types.UnionType):
        inner = [choice for choice in get_args(kind) if choice is not type(None)]
        return decode(inner[0], value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        known = {name: item for name, item in value.items() if name in hints}
        return kind(**{name: decode(hints[name], item) for name, item in known.items()})
    if origin is dict:
        key_kind, item_kind = get_args(kind)
        return {_decode_key(key_kind, key): decode(item_kind, v) for key, v in value.items()}
    if origin in (list, set):
        return origin(decode(get_args(kind)[0], item) for item in value)
    if kind is bytes:
        return base64.b64decode(value)
    return value


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind, None, vars(typing))
    return _HINTS[kind]


def _decode_key(kind: Any, key: str) -> Any:
    if kind is int:
        return int(key)
    return tuple(key.split("\0")) if get_origin(kind) is tuple else key
