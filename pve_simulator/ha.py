"""HA-managed guests: start and stop are only requested, the manager carries them out later."""

from __future__ import annotations

from . import migrate, power
from .simulator import Simulator
from .tasks import Job

REQUEST_S = 0.3
MANAGER_S = 10.0


def manages(sim: Simulator, vmid: int) -> bool:
    resource = sim.world.ha.get(vmid)
    return resource is not None and resource.state not in ("ignored",)


async def request(sim: Simulator, job: Job, vmid: int, state: str) -> None:
    """The worker of hastart and hastop: it only writes down what is wanted."""
    await job.sleep(REQUEST_S)
    sim.world.ha[vmid].state = state
    guest = sim.world.guests[vmid]
    job.say(f"Requesting HA {'start' if state == 'started' else 'stop'} for VM {vmid}")
    sim.consoles.later(MANAGER_S, lambda: _carry_out(sim, guest.node, vmid, state))


def _carry_out(sim: Simulator, node: str, vmid: int, state: str) -> None:
    guest = sim.world.guests.get(vmid)
    if guest is None or guest.is_running == (state == "started"):
        return
    if state == "started":
        sim.tasks.start(
            node=node,
            kind="qmstart",
            id=str(vmid),
            user="root@pam",
            worker=lambda job: power.start(sim, job, node, vmid),
        )
    else:
        sim.tasks.start(
            node=node,
            kind="qmshutdown",
            id=str(vmid),
            user="root@pam",
            worker=lambda job: power.shutdown(sim, job, node, vmid, timeout_s=None, is_forced=True),
        )


async def request_move(sim: Simulator, job: Job, vmid: int, target: str) -> None:
    """The worker of hamigrate: the manager moves the guest later."""
    await job.sleep(REQUEST_S)
    job.say(f"Requesting HA migration for VM {vmid} to node {target}")
    sim.consoles.later(MANAGER_S, lambda: _move(sim, vmid, target))


def _move(sim: Simulator, vmid: int, target: str) -> None:
    guest = sim.world.guests.get(vmid)
    if guest is None or guest.node == target:
        return
    sim.tasks.start(
        node=guest.node,
        kind="qmigrate",
        id=str(vmid),
        user="root@pam",
        worker=lambda job: migrate.run(
            sim,
            job,
            node=guest.node,
            vmid=vmid,
            target=target,
            is_online=guest.is_running,
            with_local_disks=False,
            storage_name=None,
        ),
    )
