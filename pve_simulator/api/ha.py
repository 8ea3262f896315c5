"""/cluster/ha: resources and their state."""

from __future__ import annotations

from typing import Any

from ..errors import PveError, bad_parameter
from ..routing import Call, route
from ..world import HaResource


@route("GET", "/cluster/ha/resources")
async def ha_resources(call: Call) -> Any:
    return [_ha_row(resource) for resource in call.sim.world.ha.values()]


@route("POST", "/cluster/ha/resources")
async def create_resource(call: Call) -> Any:
    vmid = _vmid(call)
    if vmid in call.sim.world.ha:
        raise PveError(f"resource ID 'vm:{vmid}' already defined")
    if vmid not in call.sim.world.guests:
        raise PveError(f"unable to add resource 'vm:{vmid}': no such VM")
    resource = HaResource(vmid)
    _apply(call, resource)
    call.sim.world.ha[vmid] = resource
    return None


@route("GET", "/cluster/ha/resources/{sid}")
async def get_resource(call: Call) -> Any:
    return _ha_row(_resource(call))


@route("PUT", "/cluster/ha/resources/{sid}")
async def update_resource(call: Call) -> Any:
    _apply(call, _resource(call))
    return None


@route("DELETE", "/cluster/ha/resources/{sid}")
async def delete_resource(call: Call) -> Any:
    del call.sim.world.ha[_resource(call).vmid]
    return None


def _vmid(call: Call) -> int:
    text = str(call.params["sid"]).removeprefix("vm:")
    if not text.isdigit():
        raise bad_parameter("sid", "invalid format - unable to parse HA resource ID")
    return int(text)


def _resource(call: Call) -> HaResource:
    vmid = _vmid(call)
    if vmid not in call.sim.world.ha:
        raise PveError(f"no such resource 'vm:{vmid}'")
    return call.sim.world.ha[vmid]


def _apply(call: Call, resource: HaResource) -> None:
    params = call.params
    resource.state = str(params.get("state", resource.state))
    resource.group = params.get("group", resource.group)
    resource.comment = params.get("comment", resource.comment)
    resource.max_restart = int(params.get("max_restart", resource.max_restart))
    resource.max_relocate = int(params.get("max_relocate", resource.max_relocate))


def _ha_row(resource: HaResource) -> dict[str, Any]:
    row: dict[str, Any] = {
        "sid": f"vm:{resource.vmid}",
        "type": "vm",
        "state": resource.state,
        "max_restart": resource.max_restart,
        "max_relocate": resource.max_relocate,
    }
    if resource.group:
        row["group"] = resource.group
    if resource.comment:
        row["comment"] = resource.comment
    return row


@route("GET", "/cluster/ha/status/current")
async def ha_status(call: Call) -> Any:
    world = call.sim.world
    first = next(iter(world.nodes))
    rows: list[dict[str, Any]] = [
        {
            "id": "quorum",
            "type": "quorum",
            "node": first,
            "status": "OK" if world.has_quorum else "No quorum on node!",
            "quorate": int(world.has_quorum),
        }
    ]
    for resource in world.ha.values():
        guest = world.guests.get(resource.vmid)
        node = guest.node if guest else first
        rows.append(
            {
                "id": f"service:vm:{resource.vmid}",
                "type": "service",
                "sid": f"vm:{resource.vmid}",
                "node": node,
                "state": resource.state,
                "request_state": resource.state,
                "status": f"vm:{resource.vmid} ({node}, {resource.state})",
            }
        )
    return rows
