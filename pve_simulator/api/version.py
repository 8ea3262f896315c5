"""/ and /version."""

from __future__ import annotations

from typing import Any

from ..routing import Call, route


@route("GET", "/")
async def index(_call: Call) -> Any:
    names = ("version", "cluster", "nodes", "storage", "access", "pools")
    return [{"subdir": name} for name in names]


@route("GET", "/version")
async def version(call: Call) -> Any:
    return call.sim.version


@route("GET", "/nodes/{node}/version")
async def node_version(call: Call) -> Any:
    return call.sim.version
