"""What happens to every request before a view: its id, its log line, and the loopback guard."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.encoding import escape_uri_path

from izvor_project.api.problems import problem_response
from izvor_project.env import is_loopback

log = structlog.get_logger("izvor.http")
Answer = Callable[[HttpRequest], HttpResponse]

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_QUIET = ("/health", "/static/", "/metrics")
SAFE = {"GET", "HEAD", "OPTIONS"}


class RequestIdMiddleware:
    """Takes the caller's X-Request-ID if it is a plain one, and logs one line a request."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-ID", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        started = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
            response["X-Request-ID"] = request_id
            if not request.path.startswith(_QUIET):
                log.info(
                    "request",
                    method=request.method,
                    # As it came: decoded it may hold anything, a NUL too.
                    path=escape_uri_path(request.path),
                    status=response.status_code,
                    ms=round((time.perf_counter() - started) * 1000, 1),
                )
        return response


# What the admin's pages may load and do. Two things are weaker than they could be, because unfold,
# the theme, needs them:
#   'unsafe-eval' of scripts: Alpine.js compiles the expressions in unfold's x- attributes. They
#     stand in its templates, none is made from data; and no inline script runs, whoever wrote it.
#   'unsafe-inline' of styles: unfold writes its colours into a <style>, Alpine and htmx set style
#     attributes. A style can disturb a page's looks, but it fetches nothing from elsewhere.
ADMIN_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


# What is no page needs nothing, should a browser be made to show it.
NO_PAGE_POLICY = "default-src 'none'; frame-ancestors 'none'"
# The page has its script in its address (`?script`), and styles of Swagger's inside.
DOCS_POLICY = "; ".join(
    [
        "default-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)


class PolicyMiddleware:
    """A Content-Security-Policy on everything that has none of its own."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path == "/api/docs":
            response.setdefault("Content-Security-Policy", DOCS_POLICY)
        elif not response.get("Content-Type", "").startswith("text/html"):
            response.setdefault("Content-Security-Policy", NO_PAGE_POLICY)
        return response


class AdminPolicyMiddleware:
    """A Content-Security-Policy on every page under /admin."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if request.path.startswith("/admin"):
            response.setdefault("Content-Security-Policy", ADMIN_POLICY)
        return response


class BodyMiddleware:
    """Refuses bodies that are too large, and measures those that come without a length."""

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/api/") and self._is_too_large(request):
            most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            return problem_response(413, "too_large", f"A body has at most {most} bytes.")
        return self.get_response(request)

    def _is_too_large(self, request: HttpRequest) -> bool:
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        length = request.META.get("CONTENT_LENGTH") or ""
        if "Transfer-Encoding" in request.headers and not length:
            body = request.read(most + 1)
            # DRF takes a request without a length for one without a body.
            request._body = body
            request.META["CONTENT_LENGTH"] = str(len(body))
            return len(body) > most
        return length.isdecimal() and (len(length) > 20 or int(length) > most)


class LoopbackGuardMiddleware:
    """Where nobody needs a token, a web page in the same browser must not be able to act.

    With IZVOR_AUTH=none: the Host must be a loopback name (against DNS rebinding), an Origin must
    be ours (against other pages' requests), and a body must be JSON (a form can send no JSON).
    """

    def __init__(self, get_response: Answer) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if settings.IZVOR_AUTH == "none":
            refused = self._refusal(request)
            if refused:
                return refused
        return self.get_response(request)

    def _refusal(self, request: HttpRequest) -> HttpResponse | None:
        if not is_loopback(host_of(request)):
            return problem_response(
                403, "host_not_allowed", "Without tokens Izvor answers only to localhost."
            )
        origin = request.headers.get("Origin")
        if origin and origin != f"{request.scheme}://{request.META.get('HTTP_HOST')}":
            return problem_response(
                403, "origin_not_allowed", f"Without tokens Izvor takes no request from {origin}."
            )
        has_body = (
            request.META.get("CONTENT_LENGTH") not in ("", "0", None)
            or "Transfer-Encoding" in request.headers
        )
        is_api = request.path.startswith("/api/") and request.method not in SAFE
        if is_api and has_body and request.content_type != "application/json":
            return problem_response(
                415, "not_json", "Send the body as JSON, with Content-Type: application/json."
            )
        return None


def host_of(request: HttpRequest) -> str:
    """The Host header's name or address, without its port; "" for what is neither."""
    try:
        return urlsplit(f"//{request.META.get('HTTP_HOST', '')}").hostname or ""
    except ValueError:
        return ""
