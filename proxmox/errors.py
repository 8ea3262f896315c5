"""What can go wrong, sorted by what the caller does about it.

    ProxmoxError
    ├── Unreachable          retry: the request had no effect, or it only asked
    │   ├── TimedOut         … because the call's total deadline passed
    │   ├── Untrusted        … because the certificate is not the one we were told to trust
    │   └── BadAnswer        … because what answered a question does not speak Proxmox's API
    ├── OutcomeUnknown       look first: something was asked for, and it may have happened
    ├── Locked               wait: somebody else holds the guest or the storage
    ├── NotFound             give up: what it names is not there (`what` says what)
    ├── Conflict             give up: the state of things forbids it (`reason` says why)
    ├── Rejected             give up: Proxmox refuses the request itself (`errors` by parameter)
    ├── Unauthorized         call an operator: the credentials do not work
    └── Forbidden            call an operator: they lack `privilege` on `path`

`message` is Proxmox's own sentence, stripped; `status` the HTTP status, or None where the failure
came from a task or from the network. None of them ever holds a secret.
"""

from __future__ import annotations

from collections.abc import Mapping


class ProxmoxError(Exception):
    """Anything that a call to Proxmox can end with, other than its answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


class Unreachable(ProxmoxError):
    """No endpoint took the request, or it was a question whose answer got lost. Nothing changed."""


class TimedOut(Unreachable):
    """The deadline passed on a question, or before anything that changes was sent."""


class Untrusted(Unreachable):
    """The certificate shown is not signed by the given CA, or has another fingerprint."""


class BadAnswer(Unreachable):
    """A question was answered with something that is not Proxmox's JSON, or not in its shape."""


class OutcomeUnknown(ProxmoxError):
    """A request that changes something was sent, and its answer is lost. Look before repeating."""


class Locked(ProxmoxError):
    """Somebody else is at work there.

    `lock` is the guest's lock property (`clone`, `backup`, `snapshot`, `suspended` …), or None for
    the short locks on a guest's file and on a storage, which are free again in seconds.
    """

    def __init__(self, message: str, *, status: int | None = None, lock: str | None = None) -> None:
        super().__init__(message, status=status)
        self.lock = lock


class NotFound(ProxmoxError):
    """What the request names does not exist.

    `what` is one of `guest`, `task`, `node`, `storage`, `snapshot`, `volume`, `disk`, `pool`,
    `bridge`, `role` …; only `guest` means that the VM is gone, and only from that node: it may
    have moved to another.
    """

    def __init__(self, message: str, *, status: int | None = None, what: str | None = None) -> None:
        super().__init__(message, status=status)
        self.what = what


class Conflict(ProxmoxError):
    """The present state forbids it.

    `reason` is one of `exists` (`what` is `guest` where it is the VMID that is taken), `running`,
    `not_running`, `agent_not_running`, `digest`, `protected`, `template`, `has_snapshots`,
    `newer_snapshots`, `in_use`, `guest_ignored` (it did not shut down in time).
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str = "",
        what: str | None = None,
    ) -> None:
        super().__init__(message, status=status)
        self.reason = reason
        self.what = what


class Rejected(ProxmoxError):
    """Proxmox refuses the request as it is; asking again gives the same. `errors` by parameter."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        errors: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, status=status)
        self.errors: dict[str, str] = dict(errors or {})

    def __str__(self) -> str:
        if not self.errors:
            return self.message
        details = "; ".join(f"{name}: {text}" for name, text in sorted(self.errors.items()))
        return f"{self.message} {details}"


class Unauthorized(ProxmoxError):
    """The token or password does not work: wrong, expired, or its user is gone (all look alike)."""


class Forbidden(ProxmoxError):
    """The credentials work, but lack a right.

    `privilege` may name alternatives (`Datastore.Audit|Datastore.AllocateSpace`); both are None
    where Proxmox does not say, and where only root with a password may.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        privilege: str | None = None,
        path: str | None = None,
    ) -> None:
        super().__init__(message, status=status)
        self.privilege = privilege
        self.path = path
