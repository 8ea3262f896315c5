"""One poller a cluster: reads which Proxmox tasks still run, and nudges operations whose ended.

Waiting for a Proxmox task costs no worker. The poller's turn is as short as an operation's; a lease
on the cluster's row keeps a second one out until the next look is due.
"""

from __future__ import annotations

import datetime
import time
import uuid
from collections import defaultdict

import structlog
from django.conf import settings
from django.db.models import Q
from django.db.models.functions import Now

from accounts.sql import execute, rows
from clusters.connect import connect
from clusters.models import Cluster
from operations import progress, queue
from operations.models import RUNNING
from proxmox import Client, ProxmoxError, Unreachable, Upid

log = structlog.get_logger(__name__)

CALL_S = 5.0
# How often an operation asks for its task itself, unless the poller has seen it running.
BACKSTOP_S = 15.0
# Between two looks, however long they take.
SHORTEST_S = 0.1
# More running tasks than this on a cluster, and one look a second serves them all.
FEW = 50


def poll_cluster(pk: int) -> float | None:
    """Look once. Returns the seconds until the next look, or None when nothing is outstanding."""
    token = uuid.uuid4()
    held = Cluster.objects.filter(
        Q(poll_lease_until=None) | Q(poll_lease_until__lt=Now()), pk=pk, is_enabled=True
    ).update(
        poll_lease_token=token,
        poll_lease_until=Now() + datetime.timedelta(seconds=settings.ENGINE["lease_s"]),
    )
    if held != 1:
        return None
    began = time.monotonic()
    cluster = Cluster.objects.get(pk=pk)
    outstanding = outstanding_on(pk)
    seen: list[int] = []
    for node, tasks in outstanding.items():
        try:
            client = connect(cluster, call_s=settings.ENGINE["call_s"])
            running = poll_node(client, node, tasks)
            seen += running.values()
            progress.follow_copies(client, pk, node, running)
        except ProxmoxError as error:
            # Each operation asks for itself now and then, and says what it waits for.
            log.warning("poll_failed", cluster=cluster.name, node=node, error=str(error))
    spare(seen)
    few = sum(map(len, outstanding.values())) <= FEW
    interval = settings.ENGINE["quick_poll_s" if few else "poll_s"]
    # From look to look, however long one takes, or an end would be learnt of that much later.
    took = time.monotonic() - began
    delay = max(SHORTEST_S, interval - took) if outstanding else None
    # Not before the next look is due: a doubled hint finds the lease held.
    until = Now() + datetime.timedelta(seconds=0.8 * delay) if delay else None
    Cluster.objects.filter(pk=pk, poll_lease_token=token).update(poll_lease_until=until)
    return delay


OUTSTANDING = """
    SELECT id, upid FROM operations_operation
    WHERE cluster_id = %s AND state = 'running' AND upid <> '' AND task_exit = ''
"""


def outstanding_on(pk: int) -> dict[str, dict[str, int]]:
    """UPIDs of the Proxmox tasks that operations wait for, with their keys, by node."""
    by_node: dict[str, dict[str, int]] = defaultdict(dict)
    for operation, upid in rows(OUTSTANDING, [pk], prepare=True):
        by_node[Upid.parse(upid).node][upid] = operation
    return by_node


def poll_node(client: Client, node: str, outstanding: dict[str, int]) -> dict[str, int]:
    """Note whose tasks have ended; gives those that run."""
    tasks = client.tasks(node, source="active", limit=5000, timeout_s=CALL_S)
    running = {str(task.upid) for task in tasks if task.is_running}
    for upid, key in outstanding.items():
        if upid in running:
            continue
        try:
            status = client.task_status(Upid.parse(upid), timeout_s=CALL_S)
        except Unreachable:
            raise
        except ProxmoxError as error:
            # Unknown yet, or unreadable: the operation asks for itself now and then.
            log.info("task_unread", upid=upid, error=str(error))
            continue
        if not status.is_running:
            note_end(key, upid, status.exit_status or "unexpected status")
    return {upid: key for upid, key in outstanding.items() if upid in running}


SPARED = """
    UPDATE operations_operation
    SET due_at = statement_timestamp() + make_interval(secs => %(backstop_s)s)
    WHERE id = ANY(%(seen)s) AND due_at > statement_timestamp()
        AND due_at < statement_timestamp() + make_interval(secs => %(backstop_s)s / 2)
        AND silent_since IS NULL AND crashed_since IS NULL AND cancel_requested_at IS NULL
"""


def spare(seen: list[int]) -> None:
    """Whose task was just seen running need not ask for it: two thousand would ask 133 times a
    second. Who is due has its reason, as has who waits for more than the task."""
    if seen:
        execute(SPARED, {"seen": seen, "backstop_s": BACKSTOP_S})


ENDED = """
    UPDATE operations_operation SET task_exit = %(exit)s, due_at = statement_timestamp()
    WHERE id = %(pk)s AND upid = %(upid)s AND task_exit = '' AND state = %(running)s
"""


def note_end(pk: int, upid: str, exit_status: str) -> None:
    """Store how the task ended and make the operation due; harmless if somebody was faster."""
    ended = {"pk": pk, "upid": upid, "exit": exit_status, "running": RUNNING}
    if execute(ENDED, ended, prepare=True):
        queue.hint_at(pk)


def clusters_with_tasks() -> list[int]:
    """Clusters that need a poller and have none: their hint was lost, or its worker died."""
    return list(
        Cluster.objects.filter(
            Q(poll_lease_until=None) | Q(poll_lease_until__lt=Now()),
            is_enabled=True,
            operations__state=RUNNING,
            operations__upid__gt="",
        )
        .distinct()
        .values_list("pk", flat=True)
    )
