"""Celery's doors to inventory."""

from celery import shared_task
from django.db.models.functions import Now

from clusters.models import ONLINE, Cluster
from events.ticks import tick_task
from inventory import reconcile
from inventory.cycle import run_cycle


@shared_task(name="inventory.cycle")  # type: ignore[untyped-decorator]
def cycle(pk: int) -> None:
    run_cycle(pk)


@tick_task("inventory.tick")
def tick() -> None:
    """Ask for a look at every cluster that is due."""
    for pk in Cluster.objects.filter(is_enabled=True, look_due_at__lte=Now()).values_list(
        "pk", flat=True
    ):
        cycle.delay(pk)


@tick_task("inventory.reconcile")
def reconcile_all() -> None:
    """What may be repaired without asking is; clusters that do not answer are left alone."""
    for cluster in Cluster.objects.filter(is_enabled=True, state=ONLINE).exclude(repairs=[]):
        reconcile.repair(cluster)
