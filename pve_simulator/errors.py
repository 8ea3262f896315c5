"""The one exception of the simulated Proxmox VE.

In Proxmox a failure is a text. Raised while a request is answered it becomes the reason phrase of
the status line; raised inside a task it becomes the task's `exitstatus`. `PveError` is both.
"""

from __future__ import annotations


class PveError(Exception):
    """A failure with Proxmox's text, status and (for 400) the faulty parameters."""

    def __init__(
        self,
        text: str,
        *,
        status: int = 500,
        errors: dict[str, str] | None = None,
        has_body: bool = True,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.status = status
        self.errors = errors
        self.has_body = has_body


def bad_parameters(errors: dict[str, str]) -> PveError:
    """400 naming each faulty parameter."""
    return PveError("Parameter verification failed.", status=400, errors=errors)


def bad_parameter(name: str, text: str) -> PveError:
    return bad_parameters({name: text})


def forbidden(detail: str = "") -> PveError:
    """403; `detail` is usually "/path, Privilege"."""
    suffix = f" ({detail})" if detail else ""
    return PveError(f"Permission check failed{suffix}", status=403)


def unauthorized(text: str, *, has_body: bool = False) -> PveError:
    """401; the server holds it back for three seconds, as Proxmox does."""
    return PveError(text, status=401, has_body=has_body)
