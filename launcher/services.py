"""The servers Izvor stands on: embedded ones, or those that the environment names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.children import Child
from launcher.postgres import embedded_postgres
from launcher.state import StateFolder
from launcher.valkey import embedded_valkey

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Services:
    """`children` are to be run, `env` tells Izvor where they (or the external ones) are."""

    children: tuple[Child, ...]
    env: dict[str, str]


def plan_services(
    state: StateFolder, environ: Mapping[str, str], *, throwaway: bool = False
) -> Services:
    """DATABASE_URL and REDIS_URL each stand for a server that runs elsewhere; what is missing is
    embedded. With `throwaway` the data is not made safe against crashes."""
    env = dict(environ)
    children = []
    if not environ.get("DATABASE_URL"):
        # libpq would take these before what our URL leaves out.
        env = {name: value for name, value in env.items() if not name.startswith("PG")}
        child, env["DATABASE_URL"] = embedded_postgres(state, env, throwaway=throwaway)
        children.append(child)
    if not environ.get("REDIS_URL"):
        child, env["REDIS_URL"] = embedded_valkey(state, env, throwaway=throwaway)
        children.append(child)
    return Services(children=tuple(children), env=env)
