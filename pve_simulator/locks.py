"""File locks: one a VMID (shared or exclusive) and one a storage, with Proxmox's time limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from .clock import Clock
from .errors import PveError

Say = Callable[[str], None]

CONFIG_LOCK_S = 10.0
CLONE_LOCK_S = 1.0
SHORTEST_WAIT_S = 0.2
"""Real seconds: at high speed a busy machine must not turn a short wait into a timeout."""


class FileLock:
    """A lock with shared and exclusive holders; waiters are served in order of arrival."""

    def __init__(self) -> None:
        self.shared = 0
        self.is_exclusive = False
        self._waiters: list[tuple[bool, asyncio.Future[None]]] = []

    def _take(self, *, shared: bool) -> bool:
        if self.is_exclusive or (not shared and self.shared):
            return False
        if shared:
            self.shared += 1
        else:
            self.is_exclusive = True
        return True

    async def acquire(self, *, shared: bool, timeout_s: float, say: Say | None) -> bool:
        """False when the time (real seconds) ran out. `say` gets what Proxmox prints meanwhile."""
        if self._take(shared=shared):
            return True
        if say:
            say("trying to acquire lock...")
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiter = (shared, granted)
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(asyncio.shield(granted), timeout_s)
        except TimeoutError:
            if not granted.done():
                self._waiters.remove(waiter)
                return False
        except asyncio.CancelledError:
            if granted.done():
                self.release(shared=shared)
            else:
                self._waiters.remove(waiter)
            raise
        if say:
            say(" OK")
        return True

    def release(self, *, shared: bool) -> None:
        if shared:
            self.shared -= 1
        else:
            self.is_exclusive = False
        for waiter in list(self._waiters):
            wants_shared, granted = waiter
            if not self._take(shared=wants_shared):
                continue
            self._waiters.remove(waiter)
            granted.set_result(None)


class Locks:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._locks: dict[str, FileLock] = {}

    @asynccontextmanager
    async def config(
        self,
        vmid: int,
        *,
        shared: bool = False,
        timeout_s: float = CONFIG_LOCK_S,
        say: Say | None = None,
    ) -> AsyncIterator[None]:
        """The VM's config file lock. Raises the text of a lock that was not had in time."""
        path = f"/var/lock/qemu-server/lock-{vmid}.conf"
        text = f"can't lock file '{path}' - got timeout"
        async with self._held(path, text, shared=shared, timeout_s=timeout_s, say=say):
            yield

    @asynccontextmanager
    async def storage(
        self, name: str, node: str, *, is_shared: bool, say: Say | None = None
    ) -> AsyncIterator[None]:
        """The lock under which a storage allocates; cluster-wide for a shared one."""
        path = f"/var/lock/pve-manager/pve-storage-{name}"
        key = path if is_shared else f"{path}@{node}"
        text = f"can't lock file '{path}' - got timeout"
        if is_shared:
            text = f"error during cfs-locked 'storage-{name}' operation: got lock request timeout"
        async with self._held(key, text, shared=False, timeout_s=CONFIG_LOCK_S, say=say):
            yield

    @asynccontextmanager
    async def _held(
        self, key: str, text: str, *, shared: bool, timeout_s: float, say: Say | None
    ) -> AsyncIterator[None]:
        lock = self._locks.setdefault(key, FileLock())
        real_s = max(self._clock.real(timeout_s), SHORTEST_WAIT_S)
        if not await lock.acquire(shared=shared, timeout_s=real_s, say=say):
            raise PveError(text)
        try:
            yield
        finally:
            lock.release(shared=shared)

    def holders(self, vmid: int) -> str:
        """ "", "shared" or "exclusive": who holds a VM's file lock, for tests."""
        lock = self._locks.get(f"/var/lock/qemu-server/lock-{vmid}.conf")
        if lock is None or (not lock.shared and not lock.is_exclusive):
            return ""
        return "exclusive" if lock.is_exclusive else "shared"
