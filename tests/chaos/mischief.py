"""What happens to Izvor and to Proxmox meanwhile, at moments that the seed decides."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

from tests.stack import WORKERS, Stack

KILL_EVERY_S = 5.0
SHARE = 0.05


class Mischief(threading.Thread):
    """Kills a worker every five seconds, and now and then pulls another plug."""

    def __init__(self, stack: Stack, seed: int) -> None:
        super().__init__(name="mischief")
        self.stack = stack
        self.chance = random.Random(f"{seed}-mischief")
        self.over = threading.Event()
        self.done: Counter[str] = Counter()
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self.stack.add_fault(kind="drop_after_effect", share=SHARE, count=10**9)
            self.stack.add_fault(
                kind="status", status=596, text="Connection timed out", share=SHARE, count=10**9
            )
            while not self.over.wait(KILL_EVERY_S):
                self.kill(self.chance.choice(WORKERS))
                if self.chance.random() < 0.4:
                    self.chance.choice(self.others())()
        except BaseException as error:  # shown by the main thread, which would else not know
            self.failure = error
            raise

    def kill(self, name: str) -> None:
        self.stack.kill(name)
        self.done[f"{name.rstrip('-0123456789')} killed"] += 1

    def others(self) -> list[Callable[[], None]]:
        return [
            self.broker_dies,
            self.database_restarts,
            self.node_goes_down,
            self.proxmox_is_slow,
            lambda: self.kill("web"),
            lambda: self.kill("beat"),
        ]

    def broker_dies(self) -> None:
        """With all that was in it: it is not kept anywhere."""
        self.stack.kill("valkey")
        self.stack.parts["valkey"].wait_ready()
        self.done["broker killed"] += 1

    def database_restarts(self) -> None:
        self.stack.restart("postgres")
        self.done["database restarted"] += 1

    def node_goes_down(self) -> None:
        self.stack.cause("node_down", node="pve3")
        self.done["node down"] += 1
        self.over.wait(6)
        self.stack.cause("node_up", node="pve3")

    def proxmox_is_slow(self) -> None:
        self.stack.add_fault(kind="delay", seconds=20.0, count=20)
        self.done["20 slow answers"] += 1

    def stop(self) -> None:
        """Everything is well again from here on."""
        self.over.set()
        self.join(120)
        self.stack.clear_faults()
        self.stack.cause("node_up", node="pve3")
