"""Everything one simulated cluster consists of, in one object that the API handlers get."""

from __future__ import annotations

import asyncio
import random
import tempfile
import traceback
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import tls
from .access import Access
from .clock import Clock
from .console import Consoles
from .demo import build_world
from .faults import Faults
from .locks import Locks
from .options import Options
from .persistence import Persistence, Saved
from .stats import ResourceCache
from .tasks import TaskEngine
from .world import Guest, Storage, World

KEPT_CALLS = 20_000

VERSIONS = {
    "7.4": {"release": "7.4", "version": "7.4-20", "repoid": "b4b1ea3f3d0b9c2a"},
    "8.4": {"release": "8.4", "version": "8.4.21", "repoid": "2606ac850d46da29"},
    "9.0": {"release": "9.0", "version": "9.0.10", "repoid": "deb1ca707ec72a89"},
}


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A request as it came in: path without `/api2/json`, query and body parameters together."""

    method: str
    path: str
    params: dict[str, Any]


def _report_failure(task: asyncio.Task[None]) -> None:
    """A background task never ends by itself: say why it did."""
    if not task.cancelled() and (error := task.exception()) is not None:
        traceback.print_exception(error)


class Simulator:
    """Builds or loads the world. `start` begins the background work, `close` ends everything."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock = Clock(options.speed, offset_s=options.clock_offset_s())
        self.random = random.Random(options.seed)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self.persistence = Persistence(options.state_dir) if options.state_dir else None
        saved = self.persistence.load() if self.persistence else None
        self.world: World = self._resume(saved) if saved else self._build_world()
        self.access = self._build_access(saved.access if saved else None)
        self.certificates = tls.ensure_certificates(self._folder(), tuple(self.world.nodes))
        self.ca, self.certificate = tls.load_certificates(self.certificates)
        self.locks = Locks(self.clock)
        self.faults = Faults(options.seed)
        self.tasks = TaskEngine(self.world, self.clock, self.touch)
        self.cache = ResourceCache(self)
        self.consoles = Consoles(self)
        self.calls: list[LoggedCall] = []
        self.copies: Counter[tuple[str, str]] = Counter()
        self._background: list[asyncio.Task[None]] = []

    def _build_world(self) -> World:
        return build_world(self.options, self.random, self.clock.now())

    def _resume(self, saved: Saved) -> World:
        """Go on where the saved run ended: what the generator gives next, it never gave before."""
        self.clock.offset_s = saved.clock_offset_s
        if saved.generator is not None:
            self.random.setstate(saved.generator)
        else:
            self.random.seed(f"{self.options.seed} {saved.world.next_pid}")
        return saved.world

    def _folder(self) -> Path:
        if self.options.state_dir is not None:
            return self.options.state_dir
        self._temporary = tempfile.TemporaryDirectory(prefix="pve-simulator-")
        return Path(self._temporary.name)

    def _build_access(self, saved: dict[str, Any] | None) -> Access:
        key = bytes.fromhex(saved["key"]) if saved else None
        access = Access(self.clock, version=self.options.pve_version, key=key)
        if saved:
            access.users, access.groups = saved["users"], saved["groups"]
            access.acl = saved["acl"]
            access.tickets_valid_from = saved["tickets_valid_from"]
        access.users["root@pam"].password = self.options.password
        for full_id, secret in self.options.tokens.items():
            access.add_token(full_id, secret)
        return access

    async def start(self) -> None:
        self.cache.refresh()
        self._run_in_background(self.cache.refresh_for_ever())
        if self.persistence:
            self.persistence.save(self)
            self._run_in_background(self.persistence.save_for_ever(self))

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(_report_failure)
        self._background.append(task)

    async def close(self) -> None:
        for task in self._background:
            task.cancel()
        if self.persistence and self._background:
            await self.tasks.interrupt()
            self.persistence.save(self)
        await self.tasks.close()
        await self.consoles.close()
        if self.persistence:
            self.persistence.release()
        if self._temporary is not None:
            self._temporary.cleanup()

    def foreign_certificates(self) -> tls.Certificates:
        """Those of another CA, made when first needed."""
        folder = self.certificates.ca_file.parent / "foreign"
        return tls.ensure_certificates(folder, tuple(self.world.nodes))

    def touch(self) -> None:
        """The state changed: it is to be saved."""
        if self.persistence:
            self.persistence.is_dirty = True

    def log_call(self, call: LoggedCall) -> None:
        self.calls.append(call)
        if len(self.calls) > KEPT_CALLS:
            del self.calls[: KEPT_CALLS // 10]

    @property
    def version(self) -> dict[str, str]:
        return VERSIONS[self.options.pve_version]

    @property
    def is_old(self) -> bool:
        """PVE 7.4: no `message` in bodies, a resize answers null, no `import` content."""
        return self.options.pve_version == "7.4"

    def storage_of(self, volid: str) -> Storage:
        return self.world.storage(volid.split(":", 1)[0])

    def new_mac(self) -> str:
        tail = ":".join(f"{self.random.randrange(256):02X}" for _ in range(3))
        return f"BC:24:11:{tail}"

    def new_uuid(self) -> str:
        bits = self.random.getrandbits(128)
        bits = (bits & ~(0xF << 76)) | (4 << 76)
        bits = (bits & ~(0x3 << 62)) | (2 << 62)
        text = f"{bits:032x}"
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

    def guests_on(self, node: str) -> list[Guest]:
        return [guest for guest in self.world.guests.values() if guest.node == node]
