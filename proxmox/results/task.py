"""Tasks, as their own status and as the lists show them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxmox.redact import without_url_secrets
from proxmox.results._read import name, optional_integer, row, text
from proxmox.upid import Upid

_WARNINGS = re.compile(r"WARNINGS: (\d+)")


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """`exit_status` is None while the task runs. Its being OK says that the *task* ended well, not
    that the VM is where it should be."""

    upid: Upid
    is_running: bool
    exit_status: str | None

    @classmethod
    def from_api(cls, data: object) -> TaskStatus:
        fields = row(data)
        return cls(
            upid=Upid.parse(name(fields, "upid")),
            is_running=fields["status"] == "running",
            exit_status=_harmless(text(fields, "exitstatus")),
        )

    @property
    def is_ok(self) -> bool:
        """Ended well, with or without warnings."""
        return _is_ok(self.exit_status)

    @property
    def warnings(self) -> int:
        match = _WARNINGS.fullmatch(self.exit_status or "")
        return int(match[1]) if match else 0


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A line of a task list. `ended_at` is in Unix seconds by the node's clock."""

    upid: Upid
    is_running: bool
    exit_status: str | None
    ended_at: int | None

    @classmethod
    def from_api(cls, data: object) -> TaskEntry:
        fields = row(data)
        ended_at = optional_integer(fields, "endtime")
        # A running task has no end, and in some versions the status `RUNNING`.
        status = text(fields, "status")
        is_running = ended_at is None and status in (None, "RUNNING", "running")
        return cls(
            upid=Upid.parse(name(fields, "upid")),
            is_running=is_running,
            exit_status=None if is_running else _harmless(status),
            ended_at=ended_at,
        )

    @property
    def is_ok(self) -> bool:
        """Ended well, with or without warnings."""
        return _is_ok(self.exit_status)


def _harmless(exit_status: str | None) -> str | None:
    return None if exit_status is None else without_url_secrets(exit_status)


def _is_ok(exit_status: str | None) -> bool:
    return exit_status == "OK" or bool(_WARNINGS.fullmatch(exit_status or ""))
