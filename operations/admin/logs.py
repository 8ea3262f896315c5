"""Proxmox's log lines of the tasks that one of ours has started."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings

from accounts.crypto import Unsealable
from clusters.connect import connect
from operations.models import Operation
from proxmox import NotFound, ProxmoxError, Upid

# A person waits for it, in a page.
READ_S = 3.0


@dataclass(frozen=True)
class Log:
    """`said` is what there is to say where there are no lines."""

    upid: str
    lines: tuple[str, ...] = ()
    said: str = ""


def log_of(operation: Operation) -> list[Log]:
    """Of each task in turn; where the cluster is silent, it is asked once only."""
    upids = [upid for step in operation.steps for upid in step["upids"]]
    logs: list[Log] = []
    for upid in upids:
        try:
            client = connect(operation.cluster, call_s=settings.ENGINE["call_s"])
            lines = client.task_log(Upid.parse(upid), timeout_s=READ_S)
            logs.append(Log(upid, tuple(lines), "" if lines else "Its log is empty."))
        except NotFound:
            logs.append(Log(upid, said="Proxmox keeps no log of it any more."))
        except (ProxmoxError, Unsealable) as error:
            return [*logs, Log(upid, said=f"It cannot be read now: {error}")]
    return logs
