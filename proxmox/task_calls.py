"""Tasks: listing, following, aborting."""

from __future__ import annotations

from collections.abc import Mapping

from proxmox import validate
from proxmox.calls import Caller
from proxmox.redact import without_url_secrets
from proxmox.results import TaskEntry, TaskStatus
from proxmox.results._read import rows
from proxmox.upid import Upid


class TaskCalls(Caller):
    def tasks(
        self,
        node: str,
        *,
        source: str = "active",
        limit: int = 5000,
        vmid: int | None = None,
        typefilter: str | None = None,
        since: int | None = None,
        timeout_s: float | None = None,
    ) -> tuple[TaskEntry, ...]:
        """`source`: `active`, `archive` or `all`; `since` (Unix seconds) is about the start.

        Without Sys.Audit one sees one's own tasks only, so never the second task of a reboot.
        Raises ValueError for a limit under 1: Proxmox takes 0 for none, not for all.
        """
        if limit < 1:
            raise ValueError("a task list's limit is at least 1")
        values = {
            "source": validate.task_source(source),
            "limit": limit,
            "vmid": None if vmid is None else validate.vmid(vmid),
            "typefilter": None if typefilter is None else validate.task_type(typefilter),
            "since": since,
        }
        return self._ask(
            lambda data: tuple(TaskEntry.from_api(item) for item in rows(data)),
            "nodes/{node}/tasks",
            node=node,
            values=values,
            timeout_s=timeout_s,
        )

    def task_status(self, upid: Upid, *, timeout_s: float | None = None) -> TaskStatus:
        """Raises NotFound for an unknown task; also, for an instant, for one just started."""
        upid = _parsed(upid)
        return self._ask(
            TaskStatus.from_api,
            "nodes/{node}/tasks/{upid}/status",
            node=upid.node,
            upid=upid,
            timeout_s=timeout_s,
        )

    def task_log(
        self, upid: Upid, limit: int = 0, *, start: int = 0, timeout_s: float | None = None
    ) -> list[str]:
        """The log's lines from `start` on, URLs in them cut down to host and path; `limit` 0 means
        all of them. None for an unknown task."""
        upid = _parsed(upid)
        return self._ask(
            _log_lines,
            "nodes/{node}/tasks/{upid}/log",
            node=upid.node,
            upid=upid,
            values={"limit": limit, "start": start or None},
            timeout_s=timeout_s,
        )

    def abort_task(self, upid: Upid, *, timeout_s: float | None = None) -> None:
        """Tells the task to stop. It may take seconds over it, and is killed after 5: an
        interrupted clone can leave its target locked."""
        upid = _parsed(upid)
        self._act(
            "DELETE",
            "nodes/{node}/tasks/{upid}",
            node=upid.node,
            upid=upid,
            timeout_s=timeout_s,
        )


def _log_lines(data: object) -> list[str]:
    # Where there is no log, Proxmox answers 200 with one line that is not in a list.
    if isinstance(data, Mapping):
        return []
    return [without_url_secrets(str(line.get("t") or "")) for line in rows(data)]


def _parsed(upid: Upid) -> Upid:
    """Callers may hold the text only; what is no UPID raises ValueError."""
    return upid if isinstance(upid, Upid) else Upid.parse(upid)
