"""Who we are to Proxmox: an API token, or a user whose password buys tickets of two hours."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import quote

from proxmox.deadline import Deadline
from proxmox.errors import TimedOut, Unauthorized

# A ticket is valid for two hours; it is renewed from an hour on, and not trusted near its end.
RENEW_AFTER_S = 3600.0
TRUST_UNTIL_S = 6600.0
# A refused login is not tried again at once: each takes Proxmox 3 s, and threads would queue up.
REFUSED_FOR_S = 10.0

_USER = re.compile(r"[^\s:/!@]+@[A-Za-z][A-Za-z0-9._-]*")
_TOKEN_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_SECRET = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Token:
    """`user` with its realm (`izvor@pve`), `token_id` the name after the `!`."""

    user: str
    token_id: str
    secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _USER.fullmatch(self.user):
            raise ValueError("a Proxmox user is name@realm")
        if not _TOKEN_ID.fullmatch(self.token_id):
            raise ValueError("a Proxmox token's name is letters, digits, dots and dashes")
        if not _SECRET.fullmatch(self.secret):
            raise ValueError("a Proxmox token's secret is printable text without spaces")

    @classmethod
    def parse(cls, full_id: str, secret: str) -> Token:
        """`user@realm!name` as Proxmox writes it."""
        user, mark, token_id = full_id.strip().partition("!")
        if not mark:
            raise ValueError("a Proxmox token is user@realm!name")
        return cls(user, token_id, secret.strip())


@dataclass(frozen=True, slots=True)
class Password:
    """A user with its realm (`root@pam`), and the password for it."""

    user: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        if not _USER.fullmatch(self.user):
            raise ValueError("a Proxmox user is name@realm")
        if not self.password:
            raise ValueError("the password is empty")


Credentials = Token | Password


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a login gives. `issued_at` is by this process's monotonic clock."""

    ticket: str = field(repr=False)
    csrf_token: str = field(repr=False)
    issued_at: float


# Logs in with (user, password or old ticket); raises Unauthorized, Unreachable …
Login = Callable[[str, str, Deadline], Ticket]


class TokenIdentity:
    """A token's header, the same for reads and writes; there is nothing to renew."""

    def __init__(self, token: Token) -> None:
        self._header = f"PVEAPIToken={token.user}!{token.token_id}={token.secret}"
        self.secrets = frozenset({token.secret})

    def headers(self, method: str, deadline: Deadline) -> dict[str, str]:
        return {"Authorization": self._header}

    def was_refused(self, headers: dict[str, str]) -> bool:
        return False


class PasswordIdentity:
    """A ticket for all threads, renewed ahead of its end by whoever comes first."""

    def __init__(
        self, password: Password, login: Login, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._password = password
        self._login = login
        self._clock = clock
        self._lock = threading.Lock()
        self._ticket: Ticket | None = None
        self._refusal: tuple[float, Unauthorized] | None = None

    @property
    def secrets(self) -> frozenset[str]:
        """Everything that must not appear in a message."""
        ticket = self._ticket
        own = {self._password.password}
        return frozenset(own | ({ticket.ticket, ticket.csrf_token} if ticket else set()))

    def headers(self, method: str, deadline: Deadline) -> dict[str, str]:
        """Raises Unauthorized where the login is refused, TimedOut, Unreachable."""
        ticket = self._current(deadline)
        headers = {"Cookie": _cookie(ticket)}
        if method != "GET":
            headers["CSRFPreventionToken"] = ticket.csrf_token
        return headers

    def was_refused(self, headers: dict[str, str]) -> bool:
        """Forgets the ticket in these headers after a 401; whether another try makes sense."""
        with self._lock:
            if self._ticket and headers["Cookie"] == _cookie(self._ticket):
                self._ticket = None
        return True

    def _current(self, deadline: Deadline) -> Ticket:
        ticket = self._ticket
        age_s = self._clock() - ticket.issued_at if ticket else None
        if ticket and age_s is not None and age_s < RENEW_AFTER_S:
            return ticket
        # While one thread renews a ticket that still works, the others go on with it.
        patience_s = 0.0 if age_s is not None and age_s < TRUST_UNTIL_S else deadline.remaining_s
        if not self._lock.acquire(timeout=patience_s):
            if ticket and patience_s == 0.0:
                return ticket
            raise TimedOut("another thread's login did not end in time")
        try:
            return self._renewed(deadline)
        finally:
            self._lock.release()

    def _renewed(self, deadline: Deadline) -> Ticket:
        """With the lock held."""
        ticket, now = self._ticket, self._clock()
        if ticket and now - ticket.issued_at < RENEW_AFTER_S:
            return ticket
        if self._refusal and now < self._refusal[0]:
            raise Unauthorized(self._refusal[1].message, status=self._refusal[1].status)
        user = self._password.user
        if ticket and now - ticket.issued_at < TRUST_UNTIL_S:
            try:
                self._ticket = self._login(user, ticket.ticket, deadline)
            except Unauthorized:
                self._ticket = None
            else:
                return self._ticket
        try:
            self._ticket = self._login(user, self._password.password, deadline)
        except Unauthorized as error:
            self._refusal = (now + REFUSED_FOR_S, error)
            raise
        self._refusal = None
        return self._ticket


def _cookie(ticket: Ticket) -> str:
    # Proxmox decodes percents; what a ticket normally holds may stand as it is.
    return f"PVEAuthCookie={quote(ticket.ticket, safe=':@+/=!')}"


Identity = TokenIdentity | PasswordIdentity
