"""`manage.py serve`: the web process, on IZVOR_BIND and IZVOR_PORT."""

from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Serves the API and the admin."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        uvicorn.run(
            "izvor_project.asgi:application",
            host=settings.IZVOR_BIND,
            port=settings.IZVOR_PORT,
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
