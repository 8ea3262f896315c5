"""Accidents of the simulated cluster itself: nodes, storages, quorum, workers, credentials.

Each is one function on a simulator; the harness and the fault API call them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import drives, power, vmconfig
from .simulator import Simulator


def node_down(sim: Simulator, node: str) -> None:
    """Power loss: the node answers 595, its tasks die, its guests are off when it comes back."""
    found = sim.world.node(node)
    found.is_online = False
    found.silent_since = sim.clock.now()
    for record in list(sim.tasks.running()):
        if record.node == node:
            sim.tasks.kill(record.upid)


def node_up(sim: Simulator, node: str) -> None:
    """The node has booted; guests with `onboot` run, the others are stopped."""
    found = sim.world.node(node)
    if found.is_online:
        return
    found.is_online, found.silent_since = True, None
    found.booted_at = sim.clock.now()
    for guest in sim.guests_on(node):
        if guest.is_running:
            power.mark_stopped(guest)
        if guest.config.get("onboot") and not guest.is_template:
            power.mark_running(sim, guest)


def age_silence(sim: Simulator, node: str, seconds: float) -> None:
    """As if the node had gone silent that many simulated seconds earlier."""
    found = sim.world.node(node)
    if found.silent_since is not None:
        found.silent_since -= sim.clock.real(seconds)


def quorum(sim: Simulator, has_quorum: bool) -> None:
    """Without it every write is refused."""
    sim.world.has_quorum = has_quorum


def storage_full(sim: Simulator, storage: str, free_bytes: int = 0) -> None:
    """Leave that much space on a storage (on the fullest node of a local one)."""
    found = sim.world.storage(storage)
    nodes = list(sim.world.nodes) if not found.shared else [next(iter(sim.world.nodes))]
    found.base_used = 0
    most = max(sim.world.used_bytes(found, node) for node in nodes)
    found.base_used = max(0, found.size - most - free_bytes)


def storage_offline(sim: Simulator, storage: str, node: str | None = None) -> None:
    """The storage does not answer on one node, or on all."""
    sim.world.storage(storage).offline_nodes |= {node} if node else set(sim.world.nodes)


def storage_online(sim: Simulator, storage: str) -> None:
    sim.world.storage(storage).offline_nodes = set()


def storage_speed(sim: Simulator, storage: str, mib_per_s: float) -> None:
    """How fast one copy reads or writes there."""
    sim.world.storage(storage).copy_bytes_s = mib_per_s * 1024 * 1024


def storage_slow(
    sim: Simulator, storage: str, allocate_s: float | None = None, free_s: float | None = None
) -> None:
    """How long an allocation holds the storage's lock (others wait for it ten seconds only), and
    how long a failed clone takes to free one volume (an aborted one is killed after five)."""
    found = sim.world.storage(storage)
    found.allocate_s = found.allocate_s if allocate_s is None else allocate_s
    found.free_s = found.free_s if free_s is None else free_s


def kill_task(sim: Simulator, upid: str) -> bool:
    """The worker process dies: `unexpected status`, no clean-up, its `lock` stays."""
    return sim.tasks.kill(upid)


def kill_next_task(sim: Simulator, kind: str, after_s: float = 0.0) -> None:
    """Kill the worker of the next task of a type after some simulated seconds of its work."""
    sim.tasks.planned_kills.append((kind, after_s))


def warn_next_task(sim: Simulator, kind: str, text: str = "something is odd") -> None:
    """The next task of a type succeeds with a warning."""
    sim.tasks.forced_warnings.append((kind, text))


def fail_next_task(sim: Simulator, kind: str, text: str) -> None:
    """The next task of a type fails with this text and does nothing."""
    sim.tasks.forced_failures.append((kind, text))


def expire_tickets(sim: Simulator) -> None:
    """Every ticket and CSRF token made until now is too old."""
    sim.access.tickets_valid_from = int(sim.clock.now()) + 1


def expire_token(sim: Simulator, token: str) -> None:
    """An API token (`user@realm!name`) has expired."""
    userid, _, name = token.partition("!")
    user = sim.access.users.get(userid)
    if user is None or name not in user.tokens:
        raise ValueError(f"no such token '{token}'")
    user.tokens[name].expire = int(sim.clock.now()) - 1


def broken_tls(sim: Simulator, count: int = 1) -> None:
    """The TLS handshake of the next connections fails."""
    sim.faults.refused_handshakes = count


def foreign_certificate(sim: Simulator, is_foreign: bool = True) -> None:
    """New connections get a certificate of another CA."""
    sim.faults.has_foreign_certificate = is_foreign


def crash_guest(sim: Simulator, vmid: int) -> None:
    """QEMU dies: the guest is stopped without any task."""
    power.mark_stopped(sim.world.guests[vmid])


def agent_dead(sim: Simulator, vmid: int, is_dead: bool = True) -> None:
    """The guest's agent stops answering (a start brings it back)."""
    sim.world.guests[vmid].is_agent_dead = is_dead


def deaf_guest(sim: Simulator, vmid: int, is_deaf: bool = True) -> None:
    """The guest ignores shutdown requests."""
    sim.world.guests[vmid].is_deaf = is_deaf


def set_lock(sim: Simulator, vmid: int, lock: str | None) -> None:
    """Set or clear a guest's `lock` property, as root would on the command line."""
    config = sim.world.guests[vmid].config
    config.pop("lock", None)
    if lock:
        config["lock"] = lock


def set_option(sim: Simulator, vmid: int, key: str, value: Any) -> None:
    """Change an option behind everybody's back (drift)."""
    guest = sim.world.guests[vmid]
    guest.config[key] = vmconfig.normalised(sim, key, value)


def ha_move(sim: Simulator, vmid: int, node: str) -> None:
    """The HA manager has moved a guest to another node and, where its disks are there too,
    started it again."""
    sim.world.node(node)
    guest = sim.world.guests[vmid]
    guest.node = node
    if not guest.is_running:
        return
    disks = [drive for drive in drives.drives_of(guest.config) if drive.is_volume]
    if all(sim.world.find_volume(drive.file, node) for drive in disks):
        power.mark_running(sim, guest)
    else:
        power.mark_stopped(guest)


ACCIDENTS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        node_down,
        node_up,
        age_silence,
        quorum,
        storage_full,
        storage_offline,
        storage_online,
        storage_slow,
        storage_speed,
        kill_task,
        kill_next_task,
        warn_next_task,
        fail_next_task,
        expire_tickets,
        expire_token,
        broken_tls,
        foreign_certificate,
        crash_guest,
        agent_dead,
        deaf_guest,
        set_lock,
        set_option,
        ha_move,
    )
}
