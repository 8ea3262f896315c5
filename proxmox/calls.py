"""What every method of the client goes through: validation, identity, deadline, metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from proxmox import validate
from proxmox.auth import (
    Credentials,
    Identity,
    PasswordIdentity,
    Ticket,
    Token,
    TokenIdentity,
)
from proxmox.deadline import Deadline
from proxmox.endpoints import Endpoint
from proxmox.errors import (
    BadAnswer,
    OutcomeUnknown,
    ProxmoxError,
    Rejected,
    Unauthorized,
)
from proxmox.redact import without_url_secrets
from proxmox.results._read import name, row
from proxmox.tls import Tls
from proxmox.transport import Transport
from proxmox.upid import Upid
from proxmox.wire import Answer, Upload, call, quieten

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Called after each call with the method, the path's template (`nodes/{node}/qemu`), the outcome
# (`ok` or the error's class name) and the seconds it took. It must not raise.
OnCall = Callable[[str, str, str, float], None]

# Values that never appear in an error's text, should Proxmox repeat them.
SECRET_VALUES = frozenset({"password", "cipassword", "url"})


class Caller:
    """Holds the connection to one cluster; thread-safe."""

    def __init__(
        self,
        endpoints: Sequence[str],
        credentials: Credentials,
        *,
        tls: Tls,
        connect_timeout_s: float = 5.0,
        timeout_s: float = 30.0,
        on_call: OnCall | None = None,
    ) -> None:
        quieten()
        self.endpoints = tuple(Endpoint.parse(text) for text in endpoints)
        self.user = credentials.user
        self.tls = tls
        self._timeout_s = validate.timeout_s(timeout_s)
        self._on_call = on_call
        self._transport = Transport(
            self.endpoints, tls, connect_timeout_s=validate.timeout_s(connect_timeout_s)
        )
        self._identity: Identity = (
            TokenIdentity(credentials)
            if isinstance(credentials, Token)
            else PasswordIdentity(credentials, self._log_in)
        )

    def __repr__(self) -> str:
        where = ", ".join(str(endpoint) for endpoint in self.endpoints)
        return f"<{type(self).__name__} {self.user} at {where}>"

    def close(self) -> None:
        """Closes idle connections; those in use end with their call."""
        self._transport.close()

    # -- for the methods ---------------------------------------------------------------------

    def _ask(
        self,
        read: Callable[[object], T],
        template: str,
        *,
        timeout_s: float | None,
        values: Mapping[str, object] | None = None,
        **segments: object,
    ) -> T:
        """A question: GET, asked again where its answer is lost. Raises BadAnswer where `read`
        cannot make sense of the answer."""
        answer = self._call("GET", template, segments, values or {}, timeout_s)
        try:
            return read(answer.data)
        except (KeyError, TypeError, ValueError) as error:
            raise BadAnswer(f"the answer to {template} has an unknown shape: {error!r}") from error

    def _act(
        self,
        method: str,
        template: str,
        *,
        timeout_s: float | None,
        values: Mapping[str, object] | None = None,
        **segments: object,
    ) -> Upid | None:
        """A change: sent once. Gives the task that carries it, or None where it is done at once."""
        return self._task_of(self._call(method, template, segments, values or {}, timeout_s))

    @staticmethod
    def _task_of(answer: Answer) -> Upid | None:
        if not isinstance(answer.data, str) or not answer.data.startswith("UPID:"):
            return None
        try:
            return Upid.parse(answer.data)
        except ValueError:
            raise OutcomeUnknown("a task was started, but its name cannot be read") from None

    def _call(
        self,
        method: str,
        template: str,
        segments: Mapping[str, object],
        values: Mapping[str, object],
        timeout_s: float | None,
    ) -> Answer:
        """Raises ValueError before anything is sent, else the errors of `proxmox.errors`."""
        deadline = Deadline(self._timeout_s if timeout_s is None else validate.timeout_s(timeout_s))
        path = _path(template, segments)
        uploads = {key: value for key, value in values.items() if isinstance(value, Upload)}
        texts = validate.wire_values(
            {key: value for key, value in values.items() if key not in uploads}
        )
        started_at = time.monotonic()
        outcome = "ok"
        try:
            return call(
                self._transport,
                self._identity,
                deadline,
                method=method,
                segments=path,
                values={**texts, **uploads},
                is_repeatable=method == "GET",
            )
        except ProxmoxError as error:
            outcome = type(error).__name__
            redact(error, self._identity.secrets | _secrets_in(texts))
            raise
        finally:
            took_s = time.monotonic() - started_at
            logger.debug("%s %s: %s in %.0f ms", method, template, outcome, took_s * 1000)
            if self._on_call is not None:
                self._on_call(method, template, outcome, took_s)

    def _log_in(self, user: str, password: str, deadline: Deadline) -> Ticket:
        """Buys a ticket; the password may be an old ticket. Asking twice does no harm."""
        try:
            answer = call(
                self._transport,
                None,
                deadline,
                method="POST",
                segments=("access", "ticket"),
                values={"username": user, "password": password},
                is_repeatable=True,
            )
        except ProxmoxError as error:
            redact(error, frozenset({password}))
            raise
        try:
            fields = row(answer.data)
            if fields.get("NeedTFA"):
                raise Unauthorized(f"{user} logs in with a second factor: use an API token")
            ticket, csrf = name(fields, "ticket"), name(fields, "CSRFPreventionToken")
        except (KeyError, TypeError, ValueError):
            raise BadAnswer("the answer to the login has an unknown shape") from None
        return Ticket(ticket, csrf, time.monotonic())


def _path(template: str, segments: Mapping[str, object]) -> tuple[str, ...]:
    """The template's segments, those in braces validated and filled in."""
    return tuple(
        validate.SEGMENTS[part[1:-1]](segments[part[1:-1]]) if part.startswith("{") else part
        for part in template.split("/")
    )


def _secrets_in(values: Mapping[str, str]) -> frozenset[str]:
    return frozenset(value for key, value in values.items() if key in SECRET_VALUES)


def redact(error: ProxmoxError, secrets: frozenset[str]) -> None:
    """Takes secrets out of what Proxmox said, should it repeat them."""

    def harmless(text: str) -> str:
        for secret in filter(None, secrets):
            text = text.replace(secret, "…")
        return without_url_secrets(text)

    error.message = harmless(error.message)
    if isinstance(error, Rejected):
        error.errors = {name: harmless(text) for name, text in error.errors.items()}
    error.args = (error.message,)
