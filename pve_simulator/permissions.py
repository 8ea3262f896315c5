"""Evaluates the permission checks of the schema table."""

from __future__ import annotations

import re
from typing import Any

from .access import Identity
from .errors import PveError, forbidden
from .simulator import Simulator


def check(
    sim: Simulator, identity: Identity, facts: dict[str, Any], params: dict[str, Any]
) -> None:
    """403 unless the method's own check passes; calls "for all" or "for the world" do."""
    if "check" in facts:
        _evaluate(sim, identity, facts["check"], params)
    elif not facts.get("user") and facts and not identity.is_root:
        raise forbidden("user != root@pam")


def _evaluate(sim: Simulator, identity: Identity, rule: list[Any], params: dict[str, Any]) -> None:
    kind = rule[0]
    if kind == "and":
        for part in rule[1:]:
            _evaluate(sim, identity, part, params)
    elif kind == "or":
        if not any(_passes(sim, identity, part, params) for part in rule[1:]):
            raise forbidden()
    elif kind == "perm":
        options = dict(zip(rule[3::2], rule[4::2], strict=True))
        if "VM.Monitor" in rule[2] and "VM.Monitor" not in sim.access.roles["Administrator"]:
            _require_agent(sim, identity, _filled(rule[1], params), params)
            return
        if "require_param" in options and params.get(options["require_param"]) is None:
            raise forbidden()
        path = _filled(rule[1], params)
        sim.access.require(identity, path, *rule[2], any_of=bool(options.get("any")))
    elif kind == "userid-param":
        if rule[1] == "self":
            if identity.userid != params.get("userid"):
                raise forbidden()
        else:
            realm = str(params.get("userid", "")).rsplit("@", 1)[-1]
            sim.access.require(identity, f"/access/realm/{realm}", rule[1])
    elif kind == "userid-group":
        sim.access.require(identity, "/access/groups", *rule[1], any_of=True)
    elif kind == "perm-modify":
        sim.access.require(identity, _filled(rule[1], params), "Permissions.Modify")
    else:
        raise PveError(f"unknown permission check '{kind}'")


def _require_agent(sim: Simulator, identity: Identity, path: str, params: dict[str, Any]) -> None:
    """Version 9: running something in the guest needs more than looking at it."""
    privileges = ["VM.GuestAgent.Unrestricted"]
    if not {"command", "pid", "password"} & params.keys():
        privileges.insert(0, "VM.GuestAgent.Audit")
    sim.access.require(identity, path, *privileges, any_of=True)


def _passes(sim: Simulator, identity: Identity, rule: list[Any], params: dict[str, Any]) -> bool:
    try:
        _evaluate(sim, identity, rule, params)
    except PveError:
        return False
    return True


def _filled(path: str, params: dict[str, Any]) -> str:
    return re.sub(r"\{([^}]+)\}", lambda match: str(params.get(match.group(1), "")), path)
