"""The fault API: `/sim/…` on the same port, only there when it was asked for (`--faults`).

`GET /sim/faults` lists the rules, `POST` adds one (fields of `faults.Fault`), `DELETE` clears them.
`POST /sim/accidents/NAME` with a JSON object of arguments causes an accident (`accidents.py`).
Nothing is authenticated: it is for a simulator on one's own machine.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from aiohttp import web

from .accidents import ACCIDENTS
from .errors import PveError
from .faults import check_types
from .simulator import Simulator


async def answer(sim: Simulator, request: web.Request) -> web.Response:
    """Serve one request below `/sim`; wrong ones get 400 or 404 with a sentence."""
    parts = [part for part in request.path.split("/") if part]
    try:
        if parts == ["sim", "faults"]:
            return web.json_response(_faults(sim, request.method, await _body(request)))
        if len(parts) == 3 and parts[1] == "accidents" and request.method == "POST":
            return web.json_response(_accident(sim, parts[2], await _body(request)))
    except PveError as error:
        return web.json_response({"error": error.text}, status=400)
    except (ValueError, TypeError, KeyError) as error:
        return web.json_response({"error": f"{type(error).__name__}: {error}"}, status=400)
    return web.json_response({"error": "no such path"}, status=404)


async def _body(request: web.Request) -> dict[str, Any]:
    text = await request.text()
    body = json.loads(text) if text.strip() else {}
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    return body


def _faults(sim: Simulator, method: str, body: dict[str, Any]) -> Any:
    if method == "POST":
        sim.faults.add(**body)
    elif method == "DELETE":
        sim.faults.clear()
    elif method != "GET":
        raise ValueError(f"{method} is not known here")
    return {"faults": [dataclasses.asdict(rule) for rule in sim.faults.rules]}


def _accident(sim: Simulator, name: str, body: dict[str, Any]) -> Any:
    if name not in ACCIDENTS:
        raise ValueError(f"unknown accident '{name}', known are {', '.join(ACCIDENTS)}")
    check_types(ACCIDENTS[name], body)
    result = ACCIDENTS[name](sim, **body)
    sim.touch()
    return {"result": result}
