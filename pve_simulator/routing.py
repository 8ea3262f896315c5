"""The table of methods and paths, filled by the `route` decorators in `api/`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from .access import Identity
from .simulator import Simulator


@dataclass(slots=True)
class Call:
    """One API call: who, on what path, with which parameters (checked, path ones included)."""

    sim: Simulator
    identity: Identity
    method: str
    path: str
    params: dict[str, Any]
    request: web.Request

    @property
    def node(self) -> str:
        return str(self.params["node"])

    @property
    def vmid(self) -> int:
        return int(self.params["vmid"])

    def require(self, path: str, *privileges: str, any_of: bool = False) -> None:
        self.sim.access.require(self.identity, path, *privileges, any_of=any_of)

    def may(self, path: str, *privileges: str, any_of: bool = False) -> bool:
        return self.sim.access.may(self.identity, path, *privileges, any_of=any_of)


@dataclass(frozen=True, slots=True)
class WithTotal:
    """A list answered together with `total`."""

    data: Any
    total: int | None


Handler = Callable[[Call], Awaitable[Any]]
Found = tuple[str, Handler, dict[str, str]]

_LITERALS: dict[tuple[str, int], list[tuple[tuple[str, ...], Handler, str]]] = {}


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Serve `method` on `path`, whose `{name}` segments become parameters."""
    segments = tuple(part for part in path.split("/") if part)

    def register(handler: Handler) -> Handler:
        known = _LITERALS.setdefault((method, len(segments)), [])
        known.append((segments, handler, f"{method} {path}"))
        known.sort(key=lambda entry: sum(part.startswith("{") for part in entry[0]))
        return handler

    return register


def find(method: str, segments: list[str]) -> Found | None:
    """The schema key, the handler and the path's parameters; literal segments win."""
    if len(segments) > 6 and segments[2] == "storage" and segments[4] == "content":
        segments = [*segments[:5], "/".join(segments[5:])]
    for pattern, handler, key in _LITERALS.get((method, len(segments)), []):
        values: dict[str, str] = {}
        for expected, given in zip(pattern, segments, strict=True):
            if expected.startswith("{"):
                values[expected[1:-1]] = given
            elif expected != given:
                break
        else:
            return key, handler, values
    return None


def load_all() -> None:
    """Import every module of `api/`, so that its routes are known."""
    from . import api

    for module in pkgutil.iter_modules(api.__path__):
        importlib.import_module(f"{api.__name__}.{module.name}")


def all_routes() -> list[str]:
    load_all()
    return sorted(key for known in _LITERALS.values() for _, _, key in known)
