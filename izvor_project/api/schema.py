"""The OpenAPI description: bodies from the serializers that read them, errors as problems."""

from __future__ import annotations

from typing import Any

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.types import OpenApiTypes

from access import serializers as access
from vms.serializers import CreateVmSerializer, UpdateVmSerializer
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
    ("ProjectViewSet", "create"): access.NewProjectSerializer,
    ("ProjectViewSet", "partial_update"): access.ProjectChangesSerializer,
    ("TokenViewSet", "create"): access.NewTokenSerializer,
    ("TokenViewSet", "partial_update"): access.TokenChangesSerializer,
    ("QuotaViewSet", "update"): access.QuotaSerializer,
    ("QuotaViewSet", "partial_update"): access.QuotaChangesSerializer,
    ("WebhookViewSet", "create"): access.NewWebhookSerializer,
    ("WebhookViewSet", "partial_update"): access.WebhookChangesSerializer,
}
# What is done at once; everything else that changes something answers 202.
AT_ONCE: dict[tuple[str, str], str] = {
    (f"{noun}ViewSet", action): status
    for noun in ("Project", "Token", "Quota", "Webhook")
    for action, status in (
        ("create", "201"),
        ("update", "200"),
        ("partial_update", "200"),
        ("destroy", "204"),
    )
}
_TEXT = {"type": "string"}
CONSOLE = {
    "type": "object",
    "required": [
        "type",
        "url",
        "websocket_url",
        "host",
        "port",
        "ticket",
        "password",
        "expires_at",
    ],
    "properties": {
        "type": {"type": "string", "enum": ["vnc"]},
        "url": {**_TEXT, "description": "Opens the VM's screen in a browser, once."},
        "websocket_url": {
            **_TEXT,
            "description": "The same for programs: RFB 3.8 in binary messages, once.",
        },
        "host": {**_TEXT, "description": "Izvor's, to which the websocket goes."},
        "port": {"type": "integer"},
        "ticket": {**_TEXT, "description": "Izvor's own: used once, within a minute."},
        "password": {
            "type": ["string", "null"],
            "description": "What VNC asks for; null, since Izvor logs in.",
        },
        "expires_at": {"type": "string", "format": "date-time"},
    },
}
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


# What else is described field by field.
ANSWERS: dict[tuple[str, str], Any] = {("VmViewSet", "console"): CONSOLE}


class Schema(AutoSchema):
    """Our views answer with plain objects: what they take is typed, what they give is described."""

    def get_request_serializer(self) -> Any:
        return BODIES.get(self._view_and_action())

    def get_response_serializers(self) -> Any:
        verb = self._view_and_action()
        status = "200" if self.method == "GET" else AT_ONCE.get(verb, "202")
        content = None if status == "204" else ANSWERS.get(verb, OpenApiTypes.OBJECT)
        if verb == ("EventStreamViewSet", "list"):
            return {
                (status, "text/event-stream"): OpenApiTypes.STR,
                ("default", "application/problem+json"): PROBLEM,
            }
        return {
            status: content,
            ("default", "application/problem+json"): PROBLEM,
        }

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
