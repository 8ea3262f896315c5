"""Settings, URLs and the processes of Izvor: web (ASGI) and workers (Celery)."""

from izvor_project.celery import app as celery_app

__all__ = ["celery_app"]
