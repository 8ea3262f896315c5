"""One look at one cluster: its list into our rows, its state into the cluster's row.

Whatever goes wrong, rows stay: an unreachable cluster, a refused token or an answer that is empty
for a moment never empties the inventory.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from django.conf import settings
from django.db import close_old_connections
from django.db import connection as db_connection
from django.db.models import Q
from django.db.models.functions import Now

from accounts.crypto import Unsealable
from clusters.connect import Misconfigured, connect
from clusters.identity import OtherCluster, confirm_identity
from clusters.models import ONLINE, REFUSED, UNREACHABLE, Cluster
from events.models import record_event
from inventory import details, guests, infrastructure, templates
from operations.refusals import Unavailable
from proxmox import Client, Forbidden, ProxmoxError, Unauthorized, Unreachable
from proxmox.results import Resources
from vms.job import EMPTY_FOR_S

log = structlog.get_logger(__name__)

CALL_S = 20.0
LEASE_S = 60
AGAIN_S = 3.0
# Of a request that wants a look now, and how often it sees whether the present one is over.
PATIENCE_S = 30
GLANCE_S = 0.1


def run_cycle(pk: int) -> None:
    """Look at the cluster if it is due and nobody else is looking."""
    with looking(pk, look_due_at__lte=Now()) as cluster:
        if cluster:
            look_at(cluster)


def look_now(cluster: Cluster) -> None:
    """Until its rows are of a look that began after this call: one's own, or that of the next who
    wants one. Raises Unavailable."""
    asked, ends = database_now(), time.monotonic() + PATIENCE_S
    while time.monotonic() < ends:
        with looking(cluster.pk) as mine:
            if mine:
                look_at(mine, with_details=False)
                if mine.state == ONLINE:
                    return
                raise Unavailable(
                    "proxmox_unreachable", f"Cluster {mine} cannot be asked: {mine.error}"
                )
        # Who waits holds no connection to Postgres.
        close_old_connections()
        time.sleep(GLANCE_S)
        if Cluster.objects.filter(pk=cluster.pk, state=ONLINE, seen_at__gte=asked).exists():
            return
    raise Unavailable(
        "cluster_unavailable", f"Cluster {cluster} is being looked at for more than {PATIENCE_S} s."
    )


@contextmanager
def looking(pk: int, **only: Any) -> Iterator[Cluster | None]:
    """Be the one who looks; None while somebody else does, or if it is not wanted."""
    held = Cluster.objects.filter(
        Q(look_lease_until=None) | Q(look_lease_until__lt=Now()), pk=pk, is_enabled=True, **only
    ).update(look_lease_until=Now() + datetime.timedelta(seconds=LEASE_S))
    if held != 1:
        yield None
        return
    cluster = Cluster.objects.get(pk=pk)
    try:
        yield cluster
    finally:
        # One that does not answer is missed by people: it is asked again sooner.
        wait_s = settings.INVENTORY_CYCLE_S if cluster.state == ONLINE else AGAIN_S
        Cluster.objects.filter(pk=pk).update(
            look_lease_until=None, look_due_at=Now() + datetime.timedelta(seconds=wait_s)
        )


def look_at(cluster: Cluster, *, with_details: bool = True) -> None:
    """Read the cluster into our rows and note how it is."""
    empty_since, cluster.empty_since = cluster.empty_since, None
    try:
        client = connect(cluster, call_s=settings.ENGINE["call_s"])
        confirm_identity(cluster, client, timeout_s=CALL_S)
        began = database_now()
        resources = client.resources(timeout_s=CALL_S)
        refuse_blindness(cluster, client, resources)
        refuse_emptiness(cluster, resources, began, empty_since)
        cluster.is_quorate = is_quorate(client, resources)
    except (OtherCluster, Misconfigured, Unauthorized, Unsealable, Blind) as error:
        note_state(cluster, REFUSED, str(error))
        return
    except Forbidden as error:
        who = cluster.token_id or cluster.user
        note_state(cluster, REFUSED, f"{who} may not read the cluster: {error}")
        return
    except ProxmoxError as error:
        note_state(cluster, UNREACHABLE, str(error))
        return
    infrastructure.sync_nodes(cluster, resources, began)
    infrastructure.sync_storages(cluster, resources, began)
    templates.sync_templates(cluster, resources, began)
    guests.sync_guests(cluster, resources, began)
    note_state(cluster, ONLINE, "", seen_at=began)
    if with_details:
        details.read_some(cluster, client)


class Blind(Exception):
    """The credentials work, and see nothing."""


def database_now() -> datetime.datetime:
    """What operations' ends are stamped with, too: the one clock that all workers share."""
    with db_connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (now,) = cursor.fetchone()
    assert isinstance(now, datetime.datetime)
    return now


def is_quorate(client: Client, resources: Resources) -> bool:
    """With all nodes there it is; only when one is missing that needs a question of its own."""
    if all(node.is_online for node in resources.nodes):
        return True
    return client.cluster_status(timeout_s=CALL_S).is_quorate


def refuse_blindness(cluster: Cluster, client: Client, resources: Resources) -> None:
    """A token without rights gets empty lists with 200: that is no empty cluster."""
    if not resources.nodes:
        raise Blind(
            f"Proxmox shows no node to {cluster.token_id or cluster.user}: it needs the privilege "
            "Sys.Audit on /nodes (and VM.Audit on /vms, Datastore.Audit on /storage)."
        )
    if resources.guests and resources.storages:
        return
    granted = {name for names in client.permissions(timeout_s=CALL_S).values() for name in names}
    for seen, what, privilege, path in (
        (resources.guests, "VM", "VM.Audit", "/vms"),
        (resources.storages, "storage", "Datastore.Audit", "/storage"),
    ):
        if not seen and privilege not in granted:
            raise Blind(
                f"Proxmox shows no {what} to {cluster.token_id or cluster.user}: it needs the "
                f"privilege {privilege} on {path}."
            )


def refuse_emptiness(
    cluster: Cluster,
    resources: Resources,
    began: datetime.datetime,
    empty_since: datetime.datetime | None,
) -> None:
    """As `vms.job.is_believed_empty`: a list without any VM is the truth once it has stayed so.
    Raises Unreachable."""
    if resources.guests or not guests.are_known(cluster, began):
        return
    cluster.empty_since = empty_since or began
    if (began - cluster.empty_since).total_seconds() < EMPTY_FOR_S:
        raise Unreachable("the cluster lists no VM at all")


def note_state(
    cluster: Cluster, state: str, error: str, *, seen_at: datetime.datetime | None = None
) -> None:
    values: dict[str, object] = {
        "state": state,
        "error": error,
        "is_quorate": cluster.is_quorate,
        "empty_since": cluster.empty_since,
    }
    if seen_at is not None:
        values["seen_at"] = seen_at
    if state != cluster.state:
        log.info("cluster_state", cluster=cluster.name, state=state, error=error or None)
        record_event(
            f"cluster.{state}", by="izvor", subject=cluster.uuid, label=cluster.name, error=error
        )
    Cluster.objects.filter(pk=cluster.pk).update(**values)
    cluster.state, cluster.error = state, error
