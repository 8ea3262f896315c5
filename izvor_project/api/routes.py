"""What lies under /api/v1."""

from typing import Any

from django.urls import URLPattern, re_path
from rest_framework.routers import SimpleRouter
from rest_framework.viewsets import ViewSet

from access.event_views import AuditViewSet, EventStreamViewSet
from access.project_views import ProjectViewSet, QuotaViewSet
from access.token_views import TokenViewSet
from access.webhook_views import DeliveryViewSet, WebhookViewSet
from inventory.images import ImageViewSet, IsoViewSet
from inventory.views import ClusterViewSet, NodeViewSet, StorageViewSet
from operations.views import TaskViewSet
from vms.size_views import SizeViewSet
from vms.snapshot_views import SnapshotViewSet
from vms.template_views import WritableTemplateViewSet
from vms.views import VmViewSet


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
router.register("projects", ProjectViewSet, basename="project")
router.register("tokens", TokenViewSet, basename="token")
router.register("quotas", QuotaViewSet, basename="quota")
router.register("webhooks", WebhookViewSet, basename="webhook")
router.register("audit", AuditViewSet, basename="audit")
router.register("events", EventStreamViewSet, basename="event")


def route(path: str, viewset: type[ViewSet], name: str, **methods: Any) -> URLPattern:
    """A path below a resource: `method="action"`."""
    return re_path(f"^{path}/?$", viewset.as_view(methods), name=name)


_VM = r"vms/(?P<vm_pk>[^/]+)"
_NODE = r"nodes/(?P<pk>[^/]+)"
_SNAPSHOT = rf"{_VM}/snapshots/(?P<pk>[^/]+)"
_DELIVERIES = r"webhooks/(?P<webhook_pk>[^/]+)/deliveries"
_DELIVERY = rf"{_DELIVERIES}/(?P<pk>[^/]+)"

urlpatterns = [
    *router.urls,
    route(f"{_VM}/snapshots", SnapshotViewSet, "snapshot-list", get="list", post="create"),
    route(_SNAPSHOT, SnapshotViewSet, "snapshot-detail", delete="destroy"),
    route(f"{_SNAPSHOT}/rollback", SnapshotViewSet, "snapshot-rollback", post="rollback"),
    route(f"{_NODE}/storage", NodeViewSet, "node-storage", get="storage"),
    route(f"{_NODE}/networks", NodeViewSet, "node-networks", get="networks"),
    route(f"{_NODE}/metrics", NodeViewSet, "node-metrics", get="metrics"),
    route(_DELIVERIES, DeliveryViewSet, "delivery-list", get="list"),
    route(_DELIVERY, DeliveryViewSet, "delivery-detail", get="retrieve"),
    route(f"{_DELIVERY}/redeliver", DeliveryViewSet, "delivery-redeliver", post="redeliver"),
    route("cluster/status", ClusterViewSet, "cluster-status", get="status"),
    route("cluster/resources", ClusterViewSet, "cluster-resources", get="resources"),
]
