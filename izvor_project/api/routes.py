"""What lies under /api/v1."""

from typing import Any

from django.urls import URLPattern, re_path
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ViewSet

from inventory.images import ImageViewSet, IsoViewSet
from inventory.views import ClusterViewSet, NodeViewSet, StorageViewSet
from operations.views import TaskViewSet
from vms.snapshot_views import SnapshotViewSet
from vms.template_views import WritableTemplateViewSet
from vms.views import SizeViewSet, VmViewSet


class Router(SimpleRouter):
    """No trailing slash needed, one is tolerated."""

    def __init__(self) -> None:
        super().__init__(trailing_slash=False)
        self.trailing_slash = "/?"


router = Router()
router.register("vms", VmViewSet, basename="vm")
router.register("sizes", SizeViewSet, basename="size")
router.register("templates", WritableTemplateViewSet, basename="template")
router.register("tasks", TaskViewSet, basename="task")
router.register("nodes", NodeViewSet, basename="node")
router.register("storage", StorageViewSet, basename="storage")
router.register("isos", IsoViewSet, basename="iso")
router.register("images", ImageViewSet, basename="image")
router.register("clusters", ClusterViewSet, basename="cluster")


def route(path: str, viewset: type[ViewSet], name: str, **methods: Any) -> URLPattern:
    """A path below a resource: `method="action"`."""
    return re_path(f"^{path}/?$", viewset.as_view(methods), name=name)


_VM = r"vms/(?P<vm_pk>[^/]+)"
_NODE = r"nodes/(?P<pk>[^/]+)"
_SNAPSHOT = rf"{_VM}/snapshots/(?P<pk>[^/]+)"

urlpatterns = [
    *router.urls,
    route(f"{_VM}/snapshots", SnapshotViewSet, "snapshot-list", get="list", post="create"),
    route(_SNAPSHOT, SnapshotViewSet, "snapshot-detail", delete="destroy"),
    route(f"{_SNAPSHOT}/rollback", SnapshotViewSet, "snapshot-rollback", post="rollback"),
    route(f"{_NODE}/storage", NodeViewSet, "node-storage", get="storage"),
    route(f"{_NODE}/networks", NodeViewSet, "node-networks", get="networks"),
    route(f"{_NODE}/metrics", NodeViewSet, "node-metrics", get="metrics"),
    route("cluster/status", ClusterViewSet, "cluster-status", get="status"),
    route("cluster/resources", ClusterViewSet, "cluster-resources", get="resources"),
]
