"""/pools."""

from __future__ import annotations

from typing import Any

from .. import stats
from ..errors import PveError
from ..formats import split_list
from ..routing import Call, route
from ..world import Pool


@route("GET", "/pools")
async def pools(call: Call) -> Any:
    known = call.sim.world.pools
    if "poolid" not in call.params:
        return [_row(p) for p in known.values() if call.may(f"/pool/{p.name}", "Pool.Audit")]
    pool = _pool(call)
    call.require(f"/pool/{pool.name}", "Pool.Audit")
    return [_row(pool) | {"members": _members(call, pool)}]


@route("GET", "/pools/{poolid}")
async def get_pool(call: Call) -> Any:
    pool = _pool(call)
    row = {"members": _members(call, pool)}
    return row | ({"comment": pool.comment} if pool.comment else {})


def _row(pool: Pool) -> dict[str, Any]:
    row: dict[str, Any] = {"poolid": pool.name}
    return row | ({"comment": pool.comment} if pool.comment else {})


def _pool(call: Call) -> Pool:
    name = str(call.params["poolid"])
    if name not in call.sim.world.pools:
        raise PveError(f"pool '{name}' does not exist")
    return call.sim.world.pools[name]


def _members(call: Call, pool: Pool) -> list[dict[str, Any]]:
    world = call.sim.world
    return [
        stats.resource_row(call.sim, world.guests[vmid])
        for vmid in sorted(pool.vms)
        if vmid in world.guests
    ]


@route("POST", "/pools")
async def create_pool(call: Call) -> Any:
    name = str(call.params["poolid"])
    if name in call.sim.world.pools:
        raise PveError(f"create pool failed: pool '{name}' already exists")
    call.sim.world.pools[name] = Pool(name, str(call.params.get("comment", "")))
    return None


@route("PUT", "/pools")
@route("PUT", "/pools/{poolid}")
async def update_pool(call: Call) -> Any:
    pool = _pool(call)
    if "comment" in call.params:
        pool.comment = str(call.params["comment"])
    vms = {int(vmid) for vmid in split_list(str(call.params.get("vms", "")))}
    storages = set(split_list(str(call.params.get("storage", ""))))
    if call.params.get("delete"):
        pool.vms -= vms
        pool.storages -= storages
    else:
        pool.vms |= vms
        pool.storages |= storages
    return None


@route("DELETE", "/pools")
@route("DELETE", "/pools/{poolid}")
async def delete_pool(call: Call) -> Any:
    pool = _pool(call)
    if pool.vms:
        raise PveError(
            f"delete pool failed: pool '{pool.name}' is not empty (contains VM {min(pool.vms)})"
        )
    del call.sim.world.pools[pool.name]
    return None
