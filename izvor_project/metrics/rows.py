"""The state of everything, from the rows: true whoever is asked, and after restarts.

A query or two a table, none of them over ended operations. All moments are compared in the
database's time.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Iterable, Iterator

import redis
import structlog
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.models import Count, Min, Q
from django.db.models.functions import Greatest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clusters.models import ONLINE, PENDING, REFUSED, UNREACHABLE, Cluster
from events.models import PENDING as PENDING_DELIVERY
from events.models import Delivery
from operations import queue as hints
from operations.models import RUNNING, UNFINISHED, Lane, Operation
from vms.models import VirtualMachine

log = structlog.get_logger(__name__)

CLUSTER_STATES = (PENDING, ONLINE, UNREACHABLE, REFUSED)
Families = Iterator[GaugeMetricFamily]


class Rows(Collector):
    """A part that cannot be read is left out, and `izvor_up` says which."""

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: registering must not ask the database."""
        return ()

    def collect(self) -> Families:
        up = gauge("up", "Whether Izvor reaches what it stands on.", "service")
        parts = (("database", DatabaseError, of_the_database), ("redis", redis.RedisError, queues))
        for service, error, read in parts:
            try:
                found = list(read())
            except error:
                log.warning("metrics_without", service=service, exc_info=True)
                up.add_metric([service], 0)
            else:
                up.add_metric([service], 1)
                yield from found
        yield up


def gauge(name: str, documentation: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"izvor_{name}", documentation, labels=labels)


def of_the_database() -> Families:
    now = database_now()
    yield from operations(now)
    yield from lanes()
    yield from clusters(now)
    yield from vms()
    yield from deliveries(now)


def database_now() -> datetime.datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        moment: datetime.datetime = cursor.fetchone()[0]
        return moment


def operations(now: datetime.datetime) -> Families:
    """Unfinished ones. Due and untaken: nobody holds the lease although its time has come."""
    labels = ("kind", "state")
    count = gauge("operations", "Unfinished operations.", *labels)
    oldest = gauge("operation_oldest_seconds", "Age of the oldest unfinished operation.", *labels)
    waiting = gauge("operations_waiting", "Unfinished operations that wait for something.", *labels)
    untaken = gauge("operations_due_untaken", "Due operations that no worker has taken.")
    lag = gauge("operation_due_lag_seconds", "For how long the longest due one has not been taken.")
    free = Q(due_at__lte=now, cluster__is_enabled=True)
    free &= Q(lease_until=None) | Q(lease_until__lt=now)
    untaken_count, longest_due = 0, now
    for row in (
        Operation.objects.filter(state__in=UNFINISHED)
        .order_by()
        .values("kind", "state")
        .annotate(
            count=Count("pk"),
            oldest=Min("created_at"),
            waiting=Count("pk", filter=~Q(waiting_for="")),
            untaken=Count("pk", filter=free),
            due=Min(Greatest("due_at", "lease_until"), filter=free),
        )
    ):
        values = [row["kind"], row["state"]]
        count.add_metric(values, row["count"])
        oldest.add_metric(values, seconds(now, row["oldest"]))
        waiting.add_metric(values, row["waiting"])
        untaken_count += row["untaken"]
        longest_due = min(longest_due, row["due"] or now)
    untaken.add_metric([], untaken_count)
    lag.add_metric([], seconds(now, longest_due))
    yield from (count, oldest, waiting, untaken, lag)


def lanes() -> Families:
    """Those of running source VMs, one for each, are summed up as `source`."""
    labels = ("cluster", "lane")
    counted: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for cluster, key, limit, through, waiting in (
        Lane.objects.order_by()
        .annotate(
            through=Count("tickets", filter=Q(tickets__is_through=True)),
            waiting=Count("tickets", filter=Q(tickets__is_through=False)),
        )
        .values_list("cluster__name", "key", "limit", "through", "waiting")
    ):
        place = (cluster, "source" if key.startswith("source:") else key)
        added = zip(counted[place], (limit, through, waiting), strict=True)
        counted[place] = [before + more for before, more in added]
    families = (
        gauge("lane_limit", "How many heavy Proxmox tasks the lane lets through.", *labels),
        gauge("lane_through", "How many are through it now.", *labels),
        gauge("lane_waiting", "How many wait for it.", *labels),
    )
    for place, values in counted.items():
        for family, value in zip(families, values, strict=True):
            family.add_metric(list(place), value)
    yield from families


def clusters(now: datetime.datetime) -> Families:
    state = gauge("cluster_state", "1 for the state that the cluster is in.", "cluster", "state")
    age = gauge("inventory_age_seconds", "Since the cluster was last read completely.", "cluster")
    lag = gauge("poller_lag_seconds", "How late the next look at running tasks is.", "cluster")
    outstanding = Operation.objects.filter(state=RUNNING, task_exit="").exclude(upid="").order_by()
    first = dict(outstanding.values_list("cluster").annotate(Min("submitted_at")))
    for cluster in Cluster.objects.filter(is_enabled=True):
        for name in CLUSTER_STATES:
            state.add_metric([cluster.name, name], cluster.state == name)
        age.add_metric([cluster.name], seconds(now, cluster.seen_at or cluster.created_at))
        # A look is due when the last one's lease is over; the first, when a task was begun.
        due = max(
            first.get(cluster.pk, now), cluster.poll_lease_until or first.get(cluster.pk, now)
        )
        lag.add_metric([cluster.name], seconds(now, due))
    yield from (state, age, lag)


def vms() -> Families:
    family = gauge("vms", "Virtual machines by status.", "cluster", "status")
    rows = VirtualMachine.objects.filter(deleted_at=None).order_by()
    for row in rows.values("cluster__name", "status").annotate(count=Count("pk")):
        family.add_metric([row["cluster__name"], row["status"]], row["count"])
    yield family


def deliveries(now: datetime.datetime) -> Families:
    count = gauge("webhook_deliveries_pending", "Deliveries to webhooks that are still to be made.")
    oldest = gauge("webhook_delivery_oldest_seconds", "Age of the oldest of them.")
    found = Delivery.objects.filter(state=PENDING_DELIVERY).aggregate(
        count=Count("pk"), oldest=Min("created_at")
    )
    count.add_metric([], found["count"])
    oldest.add_metric([], seconds(now, found["oldest"] or now))
    yield from (count, oldest)


def queues() -> Families:
    """Celery's queues are Redis lists; a hint that is delivered has left its list."""
    family = gauge("queue_depth", "Hints that no worker has taken from the queue.", "queue")
    for queue in settings.CELERY_TASK_QUEUES:
        family.add_metric([queue.name], hints.untaken(queue.name, hints.BEGUN, hints.NOT_BEGUN))
    yield family


def seconds(now: datetime.datetime, moment: datetime.datetime) -> float:
    return max(0.0, (now - moment).total_seconds())
