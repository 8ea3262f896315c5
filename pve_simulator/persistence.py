"""The world on disk: one JSON file, replaced atomically a moment after a change."""

from __future__ import annotations

import asyncio
import dataclasses
import fcntl
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import orjson

from .access import AclEntry, User
from .encoding import Frozen, decode, dump, encode, no_collection
from .tasks import UNEXPECTED
from .tls import write_atomically
from .world import Guest, TaskRecord, Volume, World

if TYPE_CHECKING:
    from .simulator import Simulator

STATE_FILE = "world.json"
LOCK_FILE = "in-use"
LAYOUT = 1
DEBOUNCE_S = 0.1
RETRY_S = 5.0
COST_FACTOR = 9
"""Between two saves pass at least this many times what a save took: big worlds save less often, and
saving takes a tenth of a core at most while tasks run."""
SLICE_S = 0.01
REST_S = 0.005
"""A save works for this long, then lets whoever waits for an answer go first."""


class StateError(Exception):
    """The state folder cannot be used; the message says why."""


@dataclasses.dataclass(slots=True)
class Saved:
    """`generator` is the random generator's state: what comes after a restart must not repeat
    what came before it (MACs, uuids). `clock_offset_s` is how far the clock is off the real one."""

    world: World
    access: dict[str, Any]
    generator: tuple[Any, ...] | None
    clock_offset_s: float


class Moment:
    """The whole state of one moment, and its text."""

    def __init__(self, sim: Simulator) -> None:
        world = sim.world
        large = {"guests", "volumes", "tasks"}
        self._guests = Frozen(Guest, world.guests)
        self._tasks = Frozen(TaskRecord, world.tasks)
        self._volumes = {
            dump("\0".join(key)): Frozen(Volume, known) for key, known in world.volumes.items()
        }
        self._rest = {
            field.name: encode(getattr(world, field.name))
            for field in dataclasses.fields(world)
            if field.name not in large
        }
        self._others = {
            "layout": LAYOUT,
            "access": encode(sim.access.state()),
            "generator": encode(sim.random.getstate()),
            "clock_offset_s": sim.clock.offset_s,
        }

    def pieces(self) -> Iterator[bytes]:
        yield dump(self._others)[:-1]
        yield b',"world":' + dump(self._rest)[:-1] + b',"guests":'
        yield from self._guests.pieces()
        yield b',"tasks":'
        yield from self._tasks.pieces()
        yield b',"volumes":'
        comma = b"{"
        for key, known in self._volumes.items():
            yield comma + key + b":"
            yield from known.pieces()
            comma = b","
        yield b"{}}}" if comma == b"{" else b"}}}"


class Persistence:
    def __init__(self, folder: Path) -> None:
        self._file = folder / STATE_FILE
        self.is_dirty = True
        self._folder = folder
        self._lock: IO[bytes] | None = None
        self._writing = threading.Lock()
        self._newest = 0
        self._written = 0

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
            text = self._file.read_bytes()
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
        """Save at once: nothing else happens meanwhile."""
        self.is_dirty = False
        self._write(self._next_number(), list(Moment(sim).pieces()))

    async def save_beside(self, sim: Simulator) -> None:
        """Save the state of this moment while the simulator goes on answering."""
        self.is_dirty = False
        with no_collection():
            moment = Moment(sim)
        number, pieces, began = self._next_number(), [], time.monotonic()
        for piece in moment.pieces():
            pieces.append(piece)
            if time.monotonic() - began > SLICE_S:
                await asyncio.sleep(REST_S)
                began = time.monotonic()
        await asyncio.to_thread(self._write, number, pieces)

    def _next_number(self) -> int:
        self._newest += 1
        return self._newest

    def _write(self, number: int, pieces: list[bytes]) -> None:
        """Never an older state over a newer one: the last save may overtake one in its thread."""
        content = b"".join(pieces)
        with self._writing:
            if number > self._written:
                write_atomically(self._file, content, mode=0o600)
                self._written = number

    async def save_for_ever(self, sim: Simulator) -> None:
        """After each change, and steadily while workers change things."""
        while True:
            await asyncio.sleep(DEBOUNCE_S)
            if self.is_dirty or any(sim.tasks.running()):
                began = time.monotonic()
                try:
                    await self.save_beside(sim)
                except OSError as error:
                    print(f"pve_simulator: cannot write the state: {error}", file=sys.stderr)
                    self.is_dirty = True
                    await asyncio.sleep(RETRY_S)
                await asyncio.sleep((time.monotonic() - began) * COST_FACTOR)


def _parse(text: bytes) -> Saved:
    raw = orjson.loads(text)
    if raw["layout"] != LAYOUT:
        raise ValueError(f"layout {raw['layout']} instead of {LAYOUT}")
    world = decode(World, raw["world"])
    access = {
        "key": raw["access"]["key"],
        "users": decode(dict[str, User], raw["access"]["users"]),
        "groups": raw["access"]["groups"],
        "acl": decode(list[AclEntry], raw["access"]["acl"]),
        "tickets_valid_from": int(raw["access"].get("tickets_valid_from", 0)),
    }
    offset_s = float(raw.get("clock_offset_s", 0.0))
    for record in world.tasks.values():
        if record.is_running:
            record.exitstatus, record.endtime = UNEXPECTED, int(time.time() + offset_s)
    return Saved(world, access, _generator(raw.get("generator")), offset_s)


def _generator(state: Any) -> tuple[Any, ...] | None:
    """As `Random.setstate` wants it; None for a state of before it was kept."""
    if state is None:
        return None
    found = (int(state[0]), tuple(state[1]), state[2])
    random.Random().setstate(found)
    return found
