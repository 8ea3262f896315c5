"""Where everything is."""

from collections.abc import Callable

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import include, path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from access.login import login
from izvor_project import error_pages, health
from izvor_project.api import problems, routes
from izvor_project.console.page import console
from izvor_project.home import page as home_page
from izvor_project.metrics.view import MetricsView
from vms.console import PAGE

# Here and not when apps are loaded: workers have no pages.
admin.autodiscover()


def read_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    return csrf_exempt(require_safe(view))


def home(request: HttpRequest) -> HttpResponse:
    return redirect("admin:index")


docs = SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="docs.html")

urlpatterns = [
    path("", home),
    path("admin", home),
    path("health", read_only(health.health)),
    path("health/live", read_only(health.live)),
    path("health/ready", read_only(health.ready)),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("api/v1/", include(routes.urlpatterns)),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", docs, name="docs"),
    path(PAGE.lstrip("/"), console, name="console"),
    path("admin/login/", login),
    path("admin/live/", admin.site.admin_view(home_page.live), name="admin_home_live"),
    path("admin/", admin.site.urls),
    # A form's page would else be asked for its token first.
    re_path(r"^api/.*$", csrf_exempt(problems.not_found)),
]

handler400 = error_pages.bad_request
handler403 = error_pages.forbidden
handler404 = error_pages.not_found
handler500 = error_pages.server_error
