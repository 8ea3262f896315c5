"""The Celery application. Messages are hints: every task reads its truth from a row."""

import os

from celery import Celery

# Serves the workers' metrics: it listens for their start.
from izvor_project.metrics import worker  # noqa: F401

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "izvor_project.settings")

app = Celery("izvor")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.beat_schedule = {
    "sweep": {"task": "operations.sweep", "schedule": 2.0, "options": {"expires": 2}},
    "reconcile": {
        "task": "inventory.reconcile",
        "schedule": 60.0,
        "options": {"expires": 60},
    },
    "events": {"task": "events.tick", "schedule": 1.0, "options": {"expires": 1}},
    "forget events": {"task": "events.clean", "schedule": 3600.0, "options": {"expires": 3600}},
    "forget keys": {"task": "operations.clean", "schedule": 3600.0, "options": {"expires": 3600}},
    "inventory": {"task": "inventory.tick", "schedule": 2.0, "options": {"expires": 2}},
}
app.autodiscover_tasks()
