"""A worker's own metrics, on a port of its own: no web process knows them."""

from __future__ import annotations

from typing import Any

import structlog
from celery.signals import worker_ready
from django.conf import settings
from prometheus_client import start_http_server

log = structlog.get_logger(__name__)


@worker_ready.connect  # type: ignore[untyped-decorator]
def serve(**_: Any) -> None:
    """Without IZVOR_WORKER_METRICS_PORT there are none. A taken port stops no worker."""
    port = settings.IZVOR_WORKER_METRICS_PORT
    if not port:
        return
    try:
        start_http_server(port, addr=settings.IZVOR_BIND)
    except OSError as error:
        log.error("metrics_not_served", port=port, error=error.strerror)
