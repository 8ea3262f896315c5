"""What outlives the call that began it: console sessions, the second half of a reboot."""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import rfb
from .errors import PveError, unauthorized
from .tasks import Job

if TYPE_CHECKING:
    from .simulator import Simulator

REBOOT_GAP_S = 1.5
OPEN_WITHIN_S = 10.0
SHORTEST_WAIT_S = 1.0
"""Real seconds: at high speed a client must still have time to come."""
FIRST_PORT, LAST_PORT = 5900, 5999
TICKET_LIFETIME_S = 40
TYPED_LINES = 8
PASSWORD_CHARACTERS = string.ascii_letters + string.digits + "!#()*+,-./:;<=>?@[]^_{|}~"


@dataclass(slots=True)
class Session:
    """One vncproxy: waits on its port until its websocket comes, or ends."""

    node: str
    vmid: int
    authid: str
    port: int
    ticket: str
    password: str
    made_at: float
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)


class Consoles:
    def __init__(self, sim: Simulator) -> None:
        self._sim = sim
        self._running: set[asyncio.Task[None]] = set()
        self._sessions: dict[tuple[str, int], Session] = {}
        self.typed: dict[int, str] = {}

    # Things that happen later

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

    async def close(self) -> None:
        for task in list(self._running):
            task.cancel()

    # Console sessions

    def open(self, *, node: str, vmid: int, authid: str, has_password: bool) -> Session:
        """A new session on the first free port of the node."""
        taken = {port for name, port in self._sessions if name == node}
        port = next((p for p in range(FIRST_PORT, LAST_PORT + 1) if p not in taken), None)
        if port is None:
            raise PveError("unable to find free port (5900-5999)")
        plain = f"PVEVNC:{int(self._sim.clock.now()):08X}"
        signature = self._sim.access.sign(f"{plain}:{authid}:/vms/{vmid}:{port}")
        ticket = f"{plain}::{signature}"
        password = ticket
        if has_password:
            password = "".join(self._sim.random.choices(PASSWORD_CHARACTERS, k=8))
            ticket = f"{password}:{ticket}"
        now = self._sim.clock.now()
        session = Session(node, vmid, authid, port, ticket, password, now)
        self._sessions[(node, port)] = session
        return session

    async def serve(self, job: Job, session: Session) -> None:
        """The worker of vncproxy: ends when nobody came, or when the client left."""
        try:
            if not self._sim.world.guests[session.vmid].is_running:
                raise PveError(f"VM {session.vmid} not running")
            limit_s = max(self._sim.clock.real(OPEN_WITHIN_S), SHORTEST_WAIT_S)
            try:
                await asyncio.wait_for(session.opened.wait(), limit_s)
            except TimeoutError:
                raise PveError("connection timed out") from None
            await session.closed.wait()
        finally:
            session.closed.set()
            self._sessions.pop((session.node, session.port), None)

    def find(self, *, node: str, vmid: int, authid: str, port: int, ticket: str) -> Session:
        """The session that this ticket opens: same user, VM and port; else a 401."""
        session = self._sessions.get((node, port))
        expected = session is not None and session.vmid == vmid and session.authid == authid
        age_s = self._sim.clock.now() - session.made_at if session else 0.0
        if session is None or not expected or session.ticket != ticket or age_s > TICKET_LIFETIME_S:
            raise unauthorized("permission denied - invalid PVEVNC ticket", has_body=True)
        if session.opened.is_set():
            raise PveError("Connection refused", status=595, has_body=False)
        return session

    def lines(self, vmid: int) -> list[str]:
        """What the guest's screen shows."""
        guest = self._sim.world.guests.get(vmid)
        if guest is None:
            return ["VM IS GONE"]
        state = "paused" if guest.is_paused else "running" if guest.is_running else "stopped"
        typed = self.typed.get(vmid, "").split("\n")[-TYPED_LINES:]
        return [f"{guest.name} (VM {vmid})", f"state: {state}", "", *typed[:-1], f"{typed[-1]}_"]

    def type_key(self, vmid: int, key: int) -> None:
        text = self.typed.get(vmid, "")
        if key == rfb.BACKSPACE:
            text = text[:-1]
        elif key == rfb.RETURN:
            text += "\n"
        elif 0x20 <= key < 0x7F:
            text += chr(key)
        self.typed[vmid] = text
