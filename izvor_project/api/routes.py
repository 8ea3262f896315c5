"""What lies under /api/v1."""

from rest_framework.routers import SimpleRouter

from operations.views import TaskViewSet
from templates_app.views import TemplateViewSet
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
