"""Putting the first page together, and drawing it again while somebody looks at it."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable
from typing import Any

from django.db.models import Count, F, Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.safestring import SafeString

from accounts.admin_live import live_body
from accounts.admin_site import BAD, moment
from clusters.admin import state_badge
from clusters.models import Cluster, Node, Storage
from izvor_project.home import attention, capacity
from operations.admin import shown
from operations.models import FAILED, QUEUED, RUNNING, UNFINISHED, Operation, title_of
from templates_app.models import Template
from vms.attention import conditions

# Of each list; the rest is one click away.
SHOWN = 12
DAY = datetime.timedelta(days=1)
AGAIN_IN_S = 5
# In a running task's own words for "Proxmox is at it" (operations.engine.following).
AT_WORK = Q(state=RUNNING) & (Q(waiting_for="") | Q(waiting_for__startswith="Proxmox task "))


def fill(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The admin's DASHBOARD_CALLBACK."""
    return {**context, "title": "Home", "body": body(), "again_in_s": AGAIN_IN_S}


def live(request: HttpRequest) -> HttpResponse:
    return JsonResponse(live_body({"home": body()}, AGAIN_IN_S))


def body() -> SafeString:
    return render_to_string("admin/izvor/home.html", gather())


def gather() -> dict[str, Any]:
    clusters = list(Cluster.objects.all())
    by_pk = {cluster.pk: cluster for cluster in clusters}
    nodes = list(Node.objects.filter(missing_since=None).order_by("cluster", "name"))
    storages = Storage.objects.filter(missing_since=None, is_available=True).each_once()
    sums = capacity.sums_by_node()
    tasks = unfinished()
    failed = recent_failures()
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    items = [
        *attention.of_clusters(clusters),
        *attention.of_workers(longest_due()),
        *attention.of_nodes(nodes, by_pk),
        *attention.of_failures([t for t in failed if not t.is_retried], count_unretried()),
        *attention.of_vms(wrong_vms(sums.values())),
        *attention.of_storages(storages, by_pk),
        *attention.of_templates(list(Template.objects.filter(never_read())[:SHOWN])),
    ]
    return {
        "items": sorted(items, key=lambda item: item.tone != BAD),
        "clusters": [
            {"load": load, "badge": state_badge(load.cluster), "seen": moment(load.cluster.seen_at)}
            for load in capacity.loads(clusters, nodes, storages, sums)
        ],
        **tasks,
        "failed": [row(task) for task in failed if task.ended_at >= midnight][:SHOWN],
    }


def unfinished() -> dict[str, Any]:
    """What is at work and what waits, with how many there are of each."""
    rows = Operation.objects.unfinished()
    counts = rows.aggregate(all=Count("pk"), at_work=Count("pk", filter=AT_WORK))
    return {
        "running": [row(task) for task in brief(rows.filter(AT_WORK).order_by("pk"))],
        "running_count": counts["at_work"],
        "waiting": [row(task) for task in brief(rows.exclude(AT_WORK).order_by("pk"))],
        "waiting_count": counts["all"] - counts["at_work"],
    }


def brief(tasks: QuerySet[Operation]) -> QuerySet[Operation]:
    return tasks.defer(*shown.UNSHOWN)[:SHOWN]


def recent_failures() -> list[Any]:
    """Of the last day, newest first."""
    failed = Operation.objects.filter(state=FAILED, ended_at__gte=timezone.now() - DAY)
    rows = shown.with_retries(failed).defer(*shown.UNSHOWN).order_by("-ended_at")
    return list(rows[: 4 * SHOWN])


def count_unretried() -> int:
    failed = Operation.objects.filter(state=FAILED, ended_at__gte=timezone.now() - DAY)
    return shown.with_retries(failed).filter(is_retried=False).count()


def longest_due() -> Operation | None:
    """The task that waits longest for a worker: due, and held by none."""
    due = Operation.objects.filter(state__in=UNFINISHED, due_at__lte=Now())
    free = due.filter(Q(lease_until=None) | Q(lease_until__lt=Now()))
    found: Operation | None = free.order_by(F("due_at")).defer(*shown.UNSHOWN).first()
    return found


def never_read() -> Q:
    return Q(details_at=None, missing_since=None, cluster__is_enabled=True)


def wrong_vms(sums: Iterable[dict[str, Any]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for each in sums:
        for name in conditions():
            counts[name] += each[f"wrong_{name}"]
    return dict(counts)


def row(task: Operation) -> dict[str, Any]:
    waits = task.waiting_for or ("a worker" if task.state == QUEUED else "")
    return {
        "task": task,
        "badge": shown.state_badge(task, is_link=True),
        "title": title_of(task.kind),
        "subject": shown.subject_link(task),
        "bar": shown.progress_bar(task),
        "step": task.step.replace("_", " "),
        "waits": waits,
        "took": shown.took(task),
        "ended": moment(task.ended_at),
    }
