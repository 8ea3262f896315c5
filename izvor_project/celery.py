"""The Celery application. Messages are hints: every task reads its truth from a row."""

import os

from celery import Celery
from celery.signals import worker_ready

from events.ticks import ticks
from izvor_project.garbage import keep_what_is_loaded

# Serves the workers' metrics: it listens for their start.
from izvor_project.metrics import worker  # noqa: F401

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "izvor_project.settings")
# Django's checks import all pages: 16 MiB in each worker and in beat, for what `make lint` and
# `manage.py prepare` have checked.
os.environ.setdefault("CELERY_SKIP_CHECKS", "1")

app = Celery("izvor")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.beat_schedule = ticks(
    {
        "operations.sweep": 2.0,
        "inventory.tick": 2.0,
        "events.tick": 1.0,
        "inventory.reconcile": 60.0,
        "events.clean": 3600.0,
        "operations.clean": 3600.0,
    }
)
app.autodiscover_tasks()


@worker_ready.connect  # type: ignore[untyped-decorator]
def when_all_is_loaded(**_: object) -> None:
    keep_what_is_loaded()
