"""Starting and stopping all guests of a node; lists that are always empty."""

from __future__ import annotations

from typing import Any

from .. import power
from ..formats import split_list
from ..routing import Call, route
from ..tasks import Job
from ..vmconfig import digest_of

STAGGER_S = 0.2


def _chosen(call: Call) -> list[int]:
    given = {int(vmid) for vmid in split_list(str(call.params.get("vms", "")))}
    return [
        guest.vmid
        for guest in call.sim.guests_on(call.node)
        if (not given or guest.vmid in given) and call.may(f"/vms/{guest.vmid}", "VM.PowerMgmt")
    ]


@route("POST", "/nodes/{node}/startall")
async def start_all(call: Call) -> Any:
    is_forced = bool(call.params.get("force")) or "vms" in call.params

    async def worker(job: Job) -> None:
        for vmid in _chosen(call):
            guest = call.sim.world.guests[vmid]
            wanted = is_forced or guest.config.get("onboot")
            if guest.is_running or guest.is_template or not wanted:
                continue
            job.say(f"Starting VM {vmid}")
            _begin(call, "qmstart", vmid)
            await job.sleep(STAGGER_S)

    return call.sim.tasks.start(
        node=call.node, kind="startall", id="", user=call.identity.authid, worker=worker
    )


@route("POST", "/nodes/{node}/stopall")
async def stop_all(call: Call) -> Any:
    async def worker(job: Job) -> None:
        for vmid in _chosen(call):
            if call.sim.world.guests[vmid].is_running:
                job.say(f"Stopping VM {vmid}")
                _begin(call, "qmshutdown", vmid)
                await job.sleep(STAGGER_S)

    return call.sim.tasks.start(
        node=call.node, kind="stopall", id="", user=call.identity.authid, worker=worker
    )


def _begin(call: Call, kind: str, vmid: int) -> None:
    sim, node = call.sim, call.node

    async def worker(job: Job) -> None:
        if kind == "qmstart":
            await power.start(sim, job, node, vmid)
        else:
            await power.shutdown(sim, job, node, vmid, timeout_s=180, is_forced=True)

    sim.tasks.start(node=node, kind=kind, id=str(vmid), user=call.identity.authid, worker=worker)


@route("GET", "/nodes/{node}/qemu/{vmid}/firewall/options")
async def firewall_options(call: Call) -> Any:
    call.sim.world.guest(call.node, call.vmid)
    return {"digest": digest_of({})}


@route("GET", "/nodes/{node}/lxc")
@route("GET", "/cluster/ha/groups")
@route("GET", "/access/groups")
async def nothing(_call: Call) -> Any:
    return []
