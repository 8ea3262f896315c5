"""The OpenAPI description: bodies from the serializers that read them, errors as problems."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter

from access import serializers as access
from izvor_project.api.answers import ABOUT, ANSWERS, FLAGS, LIMIT, QUERIES, VALUES
from izvor_project.api.components import COMPONENTS
from izvor_project.api.summaries import SUMMARIES
from vms.serializers import CreateVmSerializer, UpdateVmSerializer
from vms.size_views import NewSizeSerializer, SizeChangesSerializer
from vms.snapshot_views import NewSnapshotSerializer, RollbackSerializer
from vms.template_serializers import BuildTemplateSerializer, CopyTemplateSerializer
from vms.verbs import VERBS

ACTION = {
    "type": "object",
    "required": ["action"],
    "properties": {"action": {"type": "string", "enum": sorted(VERBS)}},
    "description": "Besides `action`, the fields that it takes.",
}
BODIES: dict[tuple[str, str], Any] = {
    ("VmViewSet", "create"): CreateVmSerializer,
    ("VmViewSet", "update"): UpdateVmSerializer,
    ("VmViewSet", "partial_update"): UpdateVmSerializer,
    ("VmViewSet", "act"): {"application/json": ACTION},
    ("WritableTemplateViewSet", "create"): BuildTemplateSerializer,
    ("WritableTemplateViewSet", "copies"): CopyTemplateSerializer,
    ("SnapshotViewSet", "create"): NewSnapshotSerializer,
    ("SnapshotViewSet", "rollback"): RollbackSerializer,
    ("SizeViewSet", "create"): NewSizeSerializer,
    ("SizeViewSet", "partial_update"): SizeChangesSerializer,
    ("ProjectViewSet", "create"): access.NewProjectSerializer,
    ("ProjectViewSet", "partial_update"): access.ProjectChangesSerializer,
    ("TokenViewSet", "create"): access.NewTokenSerializer,
    ("TokenViewSet", "partial_update"): access.TokenChangesSerializer,
    ("QuotaViewSet", "update"): access.QuotaLimitsSerializer,
    ("QuotaViewSet", "partial_update"): access.QuotaChangesSerializer,
    ("WebhookViewSet", "create"): access.NewWebhookSerializer,
    ("WebhookViewSet", "partial_update"): access.WebhookChangesSerializer,
}
_TEXT = {"type": "string"}
PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "error", "request_id"],
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "code": {**_TEXT, "description": "Stable, for programs."},
        "error": {**_TEXT, "description": "The same sentence as `detail`."},
        "errors": {
            "type": "array",
            "items": {"type": "object", "properties": {"field": _TEXT, "message": _TEXT}},
        },
        "request_id": _TEXT,
    },
}


# Headers that every request which changes something may carry.
KEY = OpenApiParameter(
    "Idempotency-Key",
    str,
    OpenApiParameter.HEADER,
    description="The same request sent again with this key gives the first one's result.",
)
PREFER = OpenApiParameter(
    "Prefer",
    str,
    OpenApiParameter.HEADER,
    description="`wait=SECONDS` (up to 300): answer when the task has ended.",
)


def parameter(view: str, name: str) -> OpenApiParameter:
    """One that this view takes in the query."""
    return OpenApiParameter(
        name,
        LIMIT if name == "limit" else bool if name in FLAGS else str,
        OpenApiParameter.QUERY,
        description=ABOUT[name],
        enum=VALUES.get((view, name)),
    )


class Schema(AutoSchema):
    """Our views answer with plain objects: what they take and give stands in tables."""

    def get_summary(self) -> str:
        return SUMMARIES[self._view_and_action()]

    def get_request_serializer(self) -> Any:
        return BODIES.get(self._view_and_action())

    def get_override_parameters(self) -> Any:
        view, action = self._view_and_action()
        asked = [parameter(view, name) for name in QUERIES.get((view, action), ())]
        return asked if self.method == "GET" else [*asked, KEY, PREFER]

    def get_response_serializers(self) -> Any:
        problem = {("default", "application/problem+json"): PROBLEM}
        verb = self._view_and_action()
        if verb == ("EventStreamViewSet", "list"):
            return {("200", "text/event-stream"): OpenApiTypes.STR, **problem}
        return {**ANSWERS[verb], **problem}

    def _is_list_view(self, serializer: Any = None) -> bool:
        """Our lists are objects; none is an array."""
        return False

    def _view_and_action(self) -> tuple[str, str]:
        return type(self.view).__name__, getattr(self.view, "action", "")

    def get_operation_id(self) -> str:
        """The path's own words: `vms_actions_post`; PUT and PATCH differ in the last."""
        words = [part for part in self.path.split("/")[3:] if part]
        named = [part for part in words if not part.startswith("{")]
        one = "one" if words and words[-1].startswith("{") else ""
        return "_".join(part for part in (*named, one, self.method.lower()) if part)


def without_trailing_slashes(result: Any, **more: Any) -> Any:
    """Routes tolerate one; the canonical address has none."""
    result["paths"] = {path.rstrip("/"): item for path, item in result["paths"].items()}
    return result


def with_components(result: Any, **more: Any) -> Any:
    """The objects that answers refer to."""
    result.setdefault("components", {}).setdefault("schemas", {}).update(COMPONENTS)
    return result
