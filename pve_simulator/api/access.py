"""/access: tickets, users, tokens, roles, access control lists."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from ..access import REALMS, AclEntry, Identity, Token, User
from ..errors import PveError, bad_parameter
from ..formats import split_list
from ..routing import Call, route

_CAPABILITIES = {
    "sdn": ("/sdn", "SDN."),
    "access": ("/access", "Group. User."),
    "dc": ("/", "SDN. Sys.Audit Sys.Modify"),
    "mapping": ("/mapping", "Mapping."),
    "nodes": ("/nodes", "Sys."),
    "vms": ("/vms", "VM."),
    "storage": ("/storage", "Datastore."),
}
_ACL_ROOTS = ("access", "mapping", "nodes", "pool", "sdn", "storage", "vms")


@route("GET", "/access/domains")
async def domains(_call: Call) -> Any:
    return [{"realm": r, "type": r, "comment": text} for r, text in REALMS.items()]


@route("POST", "/access/ticket")
async def create_ticket(call: Call) -> Any:
    access = call.sim.access
    username = str(call.params["username"])
    if "realm" in call.params and "@" not in username:
        username = f"{username}@{call.params['realm']}"
    userid = access.login(username, str(call.params["password"]))
    answer: dict[str, Any] = {
        "username": userid,
        "ticket": access.ticket(userid),
        "CSRFPreventionToken": access.csrf(userid),
        "cap": _capabilities(call, userid),
    }
    if call.sim.world.is_clustered:
        answer["clustername"] = call.sim.world.cluster_name
    return answer


def _capabilities(call: Call, userid: str) -> dict[str, dict[str, int]]:
    held: dict[str, dict[str, int]] = {}
    for name, (path, prefixes) in _CAPABILITIES.items():
        granted = call.sim.access.privileges(Identity(userid), path)
        starts = tuple(prefixes.split())
        shown = {priv: 1 for priv in sorted(granted) if priv.startswith(starts)}
        if "Permissions.Modify" in granted and name != "dc":
            shown["Permissions.Modify"] = 1
        held[name] = shown
    return held


@route("GET", "/access/permissions")
async def permissions(call: Call) -> Any:
    access = call.sim.access
    identity = call.identity
    if "userid" in call.params and call.params["userid"] != identity.authid:
        call.require("/access", "Sys.Audit")
        wanted = str(call.params["userid"])
        identity = Identity(wanted, is_token="!" in wanted)
    path = call.params.get("path")
    paths = [path] if path else ["/", *access.known_paths()]
    if not path and identity.userid == "root@pam":
        tops = ("/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms")
        paths = ["/", *tops]
    answer = {}
    for each in paths:
        held = access.privileges(identity, each)
        if held:
            answer[each] = dict.fromkeys(sorted(held), 1)
    return answer


@route("GET", "/access/users")
async def users(call: Call) -> Any:
    return [
        {
            "userid": user.userid,
            "enable": int(user.enabled),
            "expire": user.expire,
            "realm-type": user.userid.rsplit("@", 1)[1],
            **({"comment": user.comment} if user.comment else {}),
        }
        for user in call.sim.access.users.values()
        if user.userid == call.identity.userid
        or call.may("/access/groups", "User.Modify", "Sys.Audit", any_of=True)
    ]


@route("POST", "/access/users")
async def create_user(call: Call) -> Any:
    userid = str(call.params["userid"])
    known = call.sim.access.users
    if userid in known:
        raise PveError(f"create user failed: user '{userid}' already exists")
    known[userid] = User(
        userid,
        call.params.get("password"),
        bool(call.params.get("enable", 1)),
        int(call.params.get("expire", 0)),
        call.params.get("comment"),
        split_list(str(call.params.get("groups", ""))),
    )
    return None


@route("DELETE", "/access/users/{userid}")
async def delete_user(call: Call) -> Any:
    userid = str(call.params["userid"])
    access = call.sim.access
    access.users.pop(userid, None)
    access.acl = [entry for entry in access.acl if entry.ugid.split("!", 1)[0] != userid]
    return None


def _user(call: Call) -> User:
    userid = str(call.params["userid"])
    if userid not in call.sim.access.users:
        raise PveError(f"no such user ('{userid}')")
    return call.sim.access.users[userid]


@route("GET", "/access/users/{userid}")
async def get_user(call: Call) -> Any:
    user = _user(call)
    return {
        "enable": int(user.enabled),
        "expire": user.expire,
        "groups": user.groups,
        "tokens": {name: _token_row(token) for name, token in user.tokens.items()},
        **({"comment": user.comment} if user.comment else {}),
    }


def _token_row(token: Token) -> dict[str, Any]:
    row: dict[str, Any] = {"privsep": int(token.privsep), "expire": token.expire}
    if token.comment is not None:
        row["comment"] = token.comment
    return row


@route("GET", "/access/users/{userid}/token")
async def tokens(call: Call) -> Any:
    return [{"tokenid": name, **_token_row(t)} for name, t in _user(call).tokens.items()]


@route("GET", "/access/users/{userid}/token/{tokenid}")
async def get_token(call: Call) -> Any:
    return _token_row(_token(call))


def _token(call: Call) -> Token:
    user, name = _user(call), str(call.params["tokenid"])
    if name not in user.tokens:
        raise PveError(f"no such token '{name}' for user '{user.userid}'")
    return user.tokens[name]


@route("POST", "/access/users/{userid}/token/{tokenid}")
async def create_token(call: Call) -> Any:
    user, name = _user(call), str(call.params["tokenid"])
    if name in user.tokens:
        raise bad_parameter("tokenid", "Token already exists.")
    secret = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4))
    token = Token(
        secret,
        bool(call.params.get("privsep", 1)),
        int(call.params.get("expire", 0)),
        call.params.get("comment"),
    )
    user.tokens[name] = token
    given = {
        key: call.params[key] for key in ("comment", "expire", "privsep") if key in call.params
    }
    info = {"privsep": 1} | {key: str(value) for key, value in given.items()}
    return {"full-tokenid": f"{user.userid}!{name}", "value": secret, "info": info}


@route("PUT", "/access/users/{userid}/token/{tokenid}")
async def update_token(call: Call) -> Any:
    token = _token(call)
    row = _token_row(token)
    if "privsep" in call.params:
        token.privsep = bool(call.params["privsep"])
        row["privsep"] = str(call.params["privsep"])
    if "expire" in call.params:
        token.expire = int(call.params["expire"])
        row["expire"] = str(token.expire)
    if "comment" in call.params:
        token.comment = row["comment"] = str(call.params["comment"])
    return row


@route("DELETE", "/access/users/{userid}/token/{tokenid}")
async def delete_token(call: Call) -> Any:
    _token(call)
    del _user(call).tokens[str(call.params["tokenid"])]
    full = f"{call.params['userid']}!{call.params['tokenid']}"
    access = call.sim.access
    access.acl = [entry for entry in access.acl if entry.ugid != full]
    return None


@route("GET", "/access/roles")
async def roles(call: Call) -> Any:
    return [
        {"roleid": name, "privs": ",".join(sorted(privileges)), "special": 1}
        for name, privileges in call.sim.access.roles.items()
    ]


@route("GET", "/access/acl")
async def acl(call: Call) -> Any:
    sees_all = call.may("/access", "Sys.Audit") or call.may("/access", "Permissions.Modify")
    return [
        {
            "path": entry.path,
            "type": entry.kind,
            "ugid": entry.ugid,
            "roleid": entry.role,
            "propagate": int(entry.propagate),
        }
        for entry in call.sim.access.acl
        if sees_all or call.may(entry.path, "Permissions.Modify")
    ]


@route("PUT", "/access/acl")
async def update_acl(call: Call) -> Any:
    access, params = call.sim.access, call.params
    path = "/" + "/".join(part for part in str(params["path"]).split("/") if part)
    if path != "/" and path.split("/")[1] not in _ACL_ROOTS:
        raise bad_parameter("path", f"invalid ACL path '{params['path']}'")
    for role in split_list(str(params["roles"])):
        if role not in access.roles:
            raise PveError(f"ACL update failed: role '{role}' does not exist")
        for kind, key in (("user", "users"), ("token", "tokens"), ("group", "groups")):
            for ugid in split_list(str(params.get(key, ""))):
                _change_entry(
                    call, AclEntry(path, kind, ugid, role, bool(params.get("propagate", 1)))
                )
    return None


def _change_entry(call: Call, entry: AclEntry) -> None:
    access = call.sim.access
    if entry.kind == "user" and entry.ugid not in access.users:
        raise PveError(f"ACL update failed: user '{entry.ugid}' does not exist")
    same = (entry.path, entry.kind, entry.ugid, entry.role)
    access.acl = [e for e in access.acl if (e.path, e.kind, e.ugid, e.role) != same]
    if not call.params.get("delete"):
        access.acl.append(entry)
