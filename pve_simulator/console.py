"""Things that outlive the task that began them: console sessions, the second half of a reboot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .simulator import Simulator

REBOOT_GAP_S = 1.5


class Consoles:
    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._running: set[asyncio.Task[None]] = set()

    def start_later(self, node: str, vmid: int) -> None:
        """Begin a qmstart task of root@pam a moment from now, as the reboot's watcher does."""
        self.later(REBOOT_GAP_S, lambda: self._start(node, vmid))

    def later(self, simulated_s: float, action: Callable[[], None]) -> None:
        """Run something once, unless the simulator ends before."""

        async def wait() -> None:
            await self._sim.clock.sleep(simulated_s)
            action()

        task = asyncio.get_running_loop().create_task(wait())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _start(self, node: str, vmid: int) -> None:
        from . import power

        self._sim.tasks.start(
            node=node,
            kind="qmstart",
            id=str(vmid),
            user="root@pam",
            worker=lambda job: power.start(self._sim, job, node, vmid),
        )

    def resume_reboots(self) -> None:
        """Nothing is pending after a restart: a real reboot's watcher dies with its daemon too."""

    async def close(self) -> None:
        for task in list(self._running):
            task.cancel()
