"""Where everything is."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import include, path, re_path
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


def home(request: HttpRequest) -> HttpResponse:
    return redirect("admin:index")


urlpatterns = [
    path("", home),
    path("admin", home),
    path("health", health.health),
    path("health/live", health.live),
    path("health/ready", health.ready),
    path("metrics", MetricsView.as_view(), name="metrics"),
    path("api/v1/", include(routes.urlpatterns)),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
    path(PAGE.lstrip("/"), console, name="console"),
    path("admin/login/", login),
    path("admin/live/", admin.site.admin_view(home_page.live), name="admin_home_live"),
    path("admin/", admin.site.urls),
    re_path(r"^api/.*$", problems.not_found),
]

handler400 = error_pages.bad_request
handler403 = error_pages.forbidden
handler404 = error_pages.not_found
handler500 = error_pages.server_error
