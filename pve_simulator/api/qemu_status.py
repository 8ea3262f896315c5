"""/nodes/N/qemu/V/status: current state and power actions."""

from __future__ import annotations

from typing import Any

from .. import drives, ha, power, stats
from ..errors import PveError, bad_parameter
from ..routing import Call, route
from ..world import Guest
from .qemu import start_task

ACTIONS = ("current", "start", "stop", "reset", "shutdown", "suspend", "reboot")


@route("GET", "/nodes/{node}/qemu/{vmid}/status")
async def index(_call: Call) -> Any:
    return [{"subdir": name} for name in ACTIONS]


@route("GET", "/nodes/{node}/qemu/{vmid}/status/current")
async def current(call: Call) -> Any:
    guest = call.sim.world.guest(call.node, call.vmid)
    row = stats.guest_row(call.sim, guest)
    row["qmpstatus"] = "paused" if guest.is_paused else row["status"]
    row["ha"] = {"managed": 0}
    if guest.vmid in call.sim.world.ha:
        resource = call.sim.world.ha[guest.vmid]
        row["ha"] = {"managed": 1, "state": resource.state}
        if resource.group:
            row["ha"]["group"] = resource.group
    if drives.is_agent_enabled(guest.config):
        row["agent"] = 1
    if guest.is_running:
        row |= stats.live_details(call.sim, guest)
    return row


def _refuse_skiplock(call: Call) -> None:
    if call.params.get("skiplock") and not call.identity.is_root:
        raise bad_parameter("skiplock", "Only root may use this option.")


def _running(call: Call) -> Guest:
    guest = call.sim.world.guest(call.node, call.vmid)
    if not guest.is_running:
        raise PveError(f"VM {call.vmid} not running")
    return guest


def _timeout(call: Call) -> float | None:
    return float(call.params["timeout"]) if "timeout" in call.params else None


@route("POST", "/nodes/{node}/qemu/{vmid}/status/start")
async def start(call: Call) -> Any:
    _refuse_skiplock(call)
    if ha.manages(call.sim, call.vmid):
        return start_task(
            call, "hastart", lambda job: ha.request(call.sim, job, call.vmid, "started")
        )
    return start_task(call, "qmstart", lambda job: power.start(call.sim, job, call.node, call.vmid))


@route("POST", "/nodes/{node}/qemu/{vmid}/status/stop")
async def stop(call: Call) -> Any:
    _refuse_skiplock(call)
    if ha.manages(call.sim, call.vmid):
        return start_task(
            call, "hastop", lambda job: ha.request(call.sim, job, call.vmid, "stopped")
        )
    return start_task(call, "qmstop", lambda job: power.stop(call.sim, job, call.node, call.vmid))


@route("POST", "/nodes/{node}/qemu/{vmid}/status/shutdown")
async def shutdown(call: Call) -> Any:
    _refuse_skiplock(call)
    is_forced = bool(call.params.get("forceStop"))
    guest = call.sim.world.guests.get(call.vmid)
    if guest is not None and guest.is_paused and not is_forced:
        raise PveError("VM is paused - cannot shutdown")
    if ha.manages(call.sim, call.vmid):
        return start_task(
            call, "hastop", lambda job: ha.request(call.sim, job, call.vmid, "stopped")
        )
    if guest is not None and guest.is_paused:
        return start_task(
            call, "qmshutdown", lambda job: power.stop(call.sim, job, call.node, call.vmid)
        )
    return start_task(
        call,
        "qmshutdown",
        lambda job: power.shutdown(
            call.sim, job, call.node, call.vmid, timeout_s=_timeout(call), is_forced=is_forced
        ),
    )


@route("POST", "/nodes/{node}/qemu/{vmid}/status/reboot")
async def reboot(call: Call) -> Any:
    guest = _running(call)
    if guest.is_paused:
        raise PveError("VM is paused - cannot shutdown")
    return start_task(
        call,
        "qmreboot",
        lambda job: power.reboot(call.sim, job, call.node, call.vmid, timeout_s=_timeout(call)),
    )


@route("POST", "/nodes/{node}/qemu/{vmid}/status/reset")
async def reset(call: Call) -> Any:
    _refuse_skiplock(call)
    _running(call)
    return start_task(call, "qmreset", lambda job: power.reset(call.sim, job, call.node, call.vmid))


@route("POST", "/nodes/{node}/qemu/{vmid}/status/suspend")
async def suspend(call: Call) -> Any:
    _refuse_skiplock(call)
    _running(call)
    if not call.params.get("todisk"):
        return start_task(
            call, "qmpause", lambda job: power.pause(call.sim, job, call.node, call.vmid)
        )
    storage = call.params.get("statestorage")
    return start_task(
        call,
        "qmsuspend",
        lambda job: power.suspend_to_disk(
            call.sim, job, call.node, call.vmid, storage_name=storage
        ),
    )


@route("POST", "/nodes/{node}/qemu/{vmid}/status/resume")
async def resume(call: Call) -> Any:
    _refuse_skiplock(call)
    guest = call.sim.world.guest(call.node, call.vmid)
    if not guest.is_running and guest.lock != "suspended":
        raise PveError(f"VM {call.vmid} not running")
    return start_task(
        call, "qmresume", lambda job: power.resume(call.sim, job, call.node, call.vmid)
    )
