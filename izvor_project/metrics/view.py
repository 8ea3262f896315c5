"""`/metrics`: for an operator's token, or for who asks from this machine."""

from __future__ import annotations

import os

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from rest_framework.permissions import BasePermission
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from izvor_project.env import is_loopback
from izvor_project.metrics.rows import Rows
from izvor_project.middleware import host_of

# Headers by which a proxy on this machine gives away that the client is somebody else.
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")


class MayScrape(BasePermission):
    message = "Metrics are for operators' tokens, and for this machine itself."

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(getattr(request.user, "is_operator", False)) or is_local(request)


def is_local(request: Request) -> bool:
    """Behind a proxy on this machine everybody comes from loopback: then it proves nothing."""
    if settings.IZVOR_TRUSTED_PROXIES or any(name in request.headers for name in FORWARDED):
        return False
    return is_loopback(request.META.get("REMOTE_ADDR", "")) and is_loopback(
        host_of(request._request)
    )


class MetricsView(APIView):
    permission_classes = [MayScrape]

    def perform_content_negotiation(
        self, request: Request, force: bool = False
    ) -> tuple[BaseRenderer, str]:
        """There is one format, whatever the scraper would like."""
        renderer = self.get_renderers()[0]
        return renderer, renderer.media_type

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        text = generate_latest(Exposed()) + generate_latest(processes())
        return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


class Exposed(CollectorRegistry):
    """The rows, for one scrape."""

    def __init__(self) -> None:
        super().__init__()
        self.register(Rows())


def processes() -> CollectorRegistry:
    """This process's counts; of several web processes the sums, which they keep in files."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return registry
