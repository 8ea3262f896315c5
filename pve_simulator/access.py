"""Who may do what: users, tokens, tickets, roles and access control lists.

`root@pam` may everything, and only its password ticket counts as root where Proxmox asks for root
itself. A token with privilege separation has what both its own entries and its user's grant.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from .clock import Clock
from .errors import forbidden, unauthorized
from .roles import roles_of

TICKET_LIFETIME_S = 7200
REALMS = {"pam": "Linux PAM standard authentication", "pve": "Proxmox VE authentication server"}


@dataclass(slots=True)
class Token:
    secret: str
    privsep: bool = True
    expire: int = 0
    comment: str | None = None


@dataclass(slots=True)
class User:
    userid: str
    password: str | None = None
    enabled: bool = True
    expire: int = 0
    comment: str | None = None
    groups: list[str] = field(default_factory=list)
    tokens: dict[str, Token] = field(default_factory=dict)


@dataclass(slots=True)
class AclEntry:
    path: str
    kind: str
    ugid: str
    role: str
    propagate: bool = True


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: `userid` or `userid!token`."""

    authid: str
    is_token: bool = False

    @property
    def userid(self) -> str:
        return self.authid.split("!", 1)[0]

    @property
    def is_root(self) -> bool:
        return self.authid == "root@pam"


class Access:
    def __init__(self, clock: Clock, *, version: str, key: bytes | None = None) -> None:
        self.clock = clock
        self.key = key or secrets.token_bytes(32)
        self.users: dict[str, User] = {"root@pam": User("root@pam")}
        self.groups: dict[str, str] = {}
        self.acl: list[AclEntry] = []
        self.roles = roles_of(version)
        self.tickets_valid_from = 0

    def add_token(self, full_id: str, secret: str, *, privsep: bool = False) -> None:
        """`user@realm!name`; a user other than root@pam is made and gets Administrator on "/"."""
        userid, _, name = full_id.partition("!")
        if userid not in self.users:
            self.users[userid] = User(userid)
            self.acl.append(AclEntry("/", "user", userid, "Administrator"))
        self.users[userid].tokens[name] = Token(secret, privsep=privsep)

    # Proving who one is

    def login(self, username: str, password: str) -> str:
        """The user's id if the password, or a still valid ticket in its place, is right."""
        user = self.users.get(username)
        if user is None or not self._is_active(user):
            raise unauthorized("authentication failure", has_body=True)
        if password.startswith("PVE:"):
            if self._user_of_ticket(password) != username:
                raise unauthorized("authentication failure", has_body=True)
        elif user.password is None or not hmac.compare_digest(
            user.password.encode(), password.encode()
        ):
            raise unauthorized("authentication failure", has_body=True)
        return username

    def ticket(self, userid: str) -> str:
        plain = f"PVE:{userid}:{int(self.clock.now()):08X}"
        return f"{plain}::{self.sign(plain)}"

    def csrf(self, userid: str) -> str:
        stamp = f"{int(self.clock.now()):08X}"
        return f"{stamp}:{self.sign(f'{stamp}:{userid}')}"

    def sign(self, text: str) -> str:
        digest = hmac.new(self.key, text.encode(), hashlib.sha512).digest()
        return base64.b64encode(digest).decode()

    def identify_ticket(self, ticket: str) -> Identity:
        userid = self._user_of_ticket(ticket)
        user = self.users.get(userid or "")
        if user is None or not self._is_active(user):
            raise unauthorized("Authentication failed!")
        return Identity(user.userid)

    def check_csrf(self, identity: Identity, token: str | None) -> None:
        stamp, _, signature = (token or "").partition(":")
        expected = self.sign(f"{stamp}:{identity.userid}")
        if not self._is_fresh(stamp) or not hmac.compare_digest(signature, expected):
            raise unauthorized("Permission denied - invalid csrf token")

    def identify_token(self, credential: str) -> Identity:
        match = re.fullmatch(r"([^!\s]+)!([^=\s]+)=(\S+)", credential)
        user = self.users.get(match.group(1)) if match else None
        token = user.tokens.get(match.group(2)) if match and user else None
        if match is None or user is None or token is None or not self._is_active(user):
            raise unauthorized("Authentication failed!")
        has_expired = bool(token.expire) and token.expire <= self.clock.now()
        if has_expired or not hmac.compare_digest(token.secret.encode(), match.group(3).encode()):
            raise unauthorized("Authentication failed!")
        return Identity(f"{match.group(1)}!{match.group(2)}", is_token=True)

    def _user_of_ticket(self, ticket: str) -> str | None:
        plain, separator, signature = ticket.partition("::")
        parts = plain.split(":")
        if not separator or len(parts) != 3 or parts[0] != "PVE" or not self._is_fresh(parts[2]):
            return None
        return parts[1] if hmac.compare_digest(signature, self.sign(plain)) else None

    def _is_fresh(self, stamp: str) -> bool:
        if not re.fullmatch(r"[0-9A-F]{8}", stamp):
            return False
        made_at = int(stamp, 16)
        age_s = self.clock.now() - made_at
        return made_at >= self.tickets_valid_from and -300 < age_s < TICKET_LIFETIME_S

    def _is_active(self, user: User) -> bool:
        return user.enabled and not (user.expire and user.expire <= self.clock.now())

    # What one may

    def privileges(self, identity: Identity, path: str) -> frozenset[str]:
        if identity.userid == "root@pam" and not self._is_separated(identity):
            return self.roles["Administrator"]
        granted = self._granted(path, "user", identity.userid)
        if identity.userid == "root@pam":
            granted = self.roles["Administrator"]
        if self._is_separated(identity):
            return granted & self._granted(path, "token", identity.authid)
        return granted

    def _is_separated(self, identity: Identity) -> bool:
        if not identity.is_token:
            return False
        user = self.users.get(identity.userid)
        token = user.tokens.get(identity.authid.split("!", 1)[1]) if user else None
        return token is None or token.privsep

    def _granted(self, path: str, kind: str, ugid: str) -> frozenset[str]:
        roles: set[str] = set()
        for prefix in _prefixes(path):
            own = [entry for entry in self.acl if entry.path == prefix]
            mine = [entry for entry in own if entry.kind == kind and entry.ugid == ugid]
            if not mine and kind == "user":
                groups = self.users[ugid].groups if ugid in self.users else []
                mine = [entry for entry in own if entry.kind == "group" and entry.ugid in groups]
            valid = [entry for entry in mine if entry.propagate or prefix == path]
            if valid:
                roles = {entry.role for entry in valid}
        if "NoAccess" in roles:
            return frozenset()
        return frozenset().union(*(self.roles.get(role, frozenset()) for role in roles))

    def may(self, identity: Identity, path: str, *privileges: str, any_of: bool = False) -> bool:
        held = self.privileges(identity, path)
        wanted = [privilege in held for privilege in privileges]
        return any(wanted) if any_of else all(wanted)

    def require(
        self, identity: Identity, path: str, *privileges: str, any_of: bool = False
    ) -> None:
        """403 naming the path and the privilege (all of them where any would do)."""
        held = self.privileges(identity, path)
        if any_of:
            if not held.intersection(privileges):
                raise forbidden(f"{path}, {'|'.join(privileges)}")
            return
        for privilege in privileges:
            if privilege not in held:
                raise forbidden(f"{path}, {privilege}")

    def known_paths(self) -> list[str]:
        return sorted({entry.path for entry in self.acl})

    def state(self) -> dict[str, Any]:
        """What must survive a restart."""
        return {
            "key": self.key.hex(),
            "users": self.users,
            "groups": self.groups,
            "acl": self.acl,
            "tickets_valid_from": self.tickets_valid_from,
        }


def _prefixes(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part]
    return ["/", *("/" + "/".join(parts[: i + 1]) for i in range(len(parts)))]
