"""HTTP requests, by route and never by address: an address may hold a VM's number."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import lru_cache

from django.contrib.admindocs.views import simplify_regex
from django.http import HttpRequest, HttpResponse
from prometheus_client import Histogram

REQUEST_SECONDS = Histogram(
    "izvor_http_request_seconds",
    "Until Django had answered, by method, route and status; `Prefer: wait` waits after that.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
# What no route has answered: static files, unknown addresses, refusals before routing.
NO_ROUTE = "none"


class MeasureMiddleware:
    """The outermost, so that refusals of the others count as well."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        started = time.perf_counter()
        response = self.get_response(request)
        method = request.method if request.method in METHODS else "other"
        series = REQUEST_SECONDS.labels(method, route_of(request), str(response.status_code))
        series.observe(time.perf_counter() - started)
        return response


def route_of(request: HttpRequest) -> str:
    """The pattern that the address matched, e.g. `/api/v1/vms/<pk>`."""
    match = request.resolver_match
    return readable(match.route) if match is not None else NO_ROUTE


@lru_cache(maxsize=1000)
def readable(route: str) -> str:
    """`^api/v1/vms/(?P<pk>[^/]+)/?$` as `/api/v1/vms/<pk>`."""
    return str(simplify_regex(route.removesuffix("/?$").replace(".*", "…")))
