"""The Celery application. Messages are hints: every task reads its truth from a row."""

import os

from celery import Celery

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
    "inventory": {"task": "inventory.tick", "schedule": 2.0, "options": {"expires": 2}},
}
app.autodiscover_tasks()
