"""`manage.py serve`: IZVOR_WEB_PROCESSES web processes on IZVOR_BIND and IZVOR_PORT."""

import os
import tempfile
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from izvor_project.server import run

# How uvicorn serves Izvor, wherever it listens.
SERVER: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "proxy_headers": False,
    "server_header": False,
    "lifespan": "off",
    "timeout_graceful_shutdown": 2,
    # Consoles are all that speaks over websockets here. What they show is compressed already, what
    # they send is small, and a pong may come late behind a large picture.
    "ws_per_message_deflate": False,
    "ws_max_size": 1024 * 1024,
    "ws_ping_timeout": 60.0,
}


class Command(BaseCommand):
    help = "Serves the API and the admin."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.IZVOR_WEB_PROCESSES == 1:
            self.serve()
            return
        # Where the processes, which each begin anew, add up their metrics.
        with tempfile.TemporaryDirectory(prefix="izvor-metrics-") as folder:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            self.serve(workers=settings.IZVOR_WEB_PROCESSES)

    def serve(self, **options: Any) -> None:
        run(
            "izvor_project.asgi:application",
            host=settings.IZVOR_BIND,
            port=settings.IZVOR_PORT,
            **{**SERVER, **proxy_options(), **options},
        )


def proxy_options() -> dict[str, Any]:
    """With IZVOR_TRUSTED_PROXIES their word is taken for the scheme and the client's address."""
    proxies = [str(network) for network in settings.IZVOR_TRUSTED_PROXIES]
    return {"proxy_headers": True, "forwarded_allow_ips": proxies} if proxies else {}
