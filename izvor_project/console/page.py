"""The page that shows a console. It knows no ticket: that stands behind the # of its address."""

from __future__ import annotations

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import staticfiles_storage
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

NOVNC = "novnc/core/rfb.js"


@require_safe
def console(request: HttpRequest) -> HttpResponse:
    answer = render(request, "console.html", {"novnc": NOVNC if is_novnc_there() else ""})
    answer["Content-Security-Policy"] = policy(request.get_host())
    answer["Referrer-Policy"] = "no-referrer"
    answer["Cache-Control"] = "no-cache"
    return answer


def policy(host: str) -> str:
    """Our own files and nothing inline. noVNC makes pictures and the pointer of `data:` images; the
    websocket's address is named, since not every browser counts it as 'self'."""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data:",
            f"connect-src 'self' ws://{host} wss://{host}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def is_novnc_there() -> bool:
    """As the static files are served: collected, or from where they were installed."""
    if settings.STATIC_ROOT is not None:
        return staticfiles_storage.exists(NOVNC)
    return finders.find(NOVNC) is not None
