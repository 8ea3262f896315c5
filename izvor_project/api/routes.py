"""What lies under /api/v1."""

from django.urls import re_path
from rest_framework.routers import SimpleRouter

from operations.views import TaskViewSet
from templates_app.views import TemplateViewSet
from vms.snapshot_views import SnapshotViewSet
from vms.views import SizeViewSet, VmViewSet


class Router(SimpleRouter):
    """No trailing slash needed, one is tolerated."""

    def __init__(self) -> None:
        super().__init__(trailing_slash=False)
        self.trailing_slash = "/?"


router = Router()
router.register("vms", VmViewSet, basename="vm")
router.register("sizes", SizeViewSet, basename="size")
router.register("templates", TemplateViewSet, basename="template")
router.register("tasks", TaskViewSet, basename="task")

_snapshots = r"^vms/(?P<vm_pk>[^/]+)/snapshots"
urlpatterns = [
    *router.urls,
    re_path(
        f"{_snapshots}/?$",
        SnapshotViewSet.as_view({"get": "list", "post": "create"}),
        name="snapshot-list",
    ),
    re_path(
        f"{_snapshots}/(?P<pk>[^/]+)/?$",
        SnapshotViewSet.as_view({"delete": "destroy"}),
        name="snapshot-detail",
    ),
    re_path(
        f"{_snapshots}/(?P<pk>[^/]+)/rollback/?$",
        SnapshotViewSet.as_view({"post": "rollback"}),
        name="snapshot-rollback",
    ),
]
