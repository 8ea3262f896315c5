"""The API of templates, the writing part: operators make, copy and delete them; members delete
what was made of their project's VMs.

Reading is `templates_app.views`; a template is made as a VM, so that what changes one lives here.
"""

from __future__ import annotations

from typing import Any

from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.permissions import OnlyOperators
from accounts.rest import actor_of, parse, refuse_unknown_params
from operations.models import Operation
from operations.rest import accepted, flag_of, idempotent, renders
from templates_app.models import Template
from templates_app.views import TemplateViewSet, find_template, template_body
from vms import template_actions
from vms.dry_run import describe_template
from vms.models import VirtualMachine
from vms.template_serializers import (
    BuildTemplateSerializer,
    CopyTemplateSerializer,
    new_template_of,
)


class WritableTemplateViewSet(TemplateViewSet):
    """Templates: what VMs are made from."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        is_for_members = request.method in SAFE_METHODS or self.action == "destroy"
        if not is_for_members and not actor_of(request).is_operator:
            raise PermissionDenied(OnlyOperators.message)

    @idempotent
    def create(self, request: Request) -> Response:
        """From a cloud image, fetched from a URL or on a storage already."""
        refuse_unknown_params(request, {"dry_run"})
        asked = new_template_of(parse(BuildTemplateSerializer, request))
        if flag_of(request, "dry_run"):
            return Response(describe_template(asked))
        return accepted(template_actions.build_template(asked=asked, by=actor_of(request)))

    @idempotent
    def destroy(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster"})
        template, actor = find_template(request, pk), actor_of(request)
        if not (actor.is_operator or template.is_own_of(actor)):
            raise PermissionDenied(OnlyOperators.message)
        return accepted(template_actions.delete_template(template=template, by=actor))

    @action(detail=True, methods=["post"])
    @idempotent
    def copies(self, request: Request, pk: str) -> Response:
        """The same template on another node's local storage."""
        refuse_unknown_params(request, {"cluster"})
        template = find_template(request, pk)
        asked = parse(CopyTemplateSerializer, request)
        operation = template_actions.copy_template(
            template=template,
            node=asked["node"],
            storage=asked.get("storage", ""),
            by=actor_of(request),
        )
        return accepted(operation)


# --- what answers say ---


@renders("build_template", created=True)
def built(operation: Operation) -> dict[str, Any]:
    return {"template": subject_body(operation)}


@renders("copy_template", created=True)
def copied(operation: Operation) -> dict[str, Any]:
    original = Template.objects.filter(uuid=operation.params["copy_of"]).shown().first()
    return {
        "template": template_body(original) if original else None,
        "copy": subject_body(operation),
    }


@renders("delete_template")
def deleted(operation: Operation) -> dict[str, Any]:
    template = Template.objects.subject_of(operation).shown().first()
    done = "is deleted" if operation.is_ended else "is being deleted"
    return {
        "message": f"Template {template or operation.subject_label} {done}.",
        "id": operation.subject_label.split(" ")[0],
    }


def subject_body(operation: Operation) -> dict[str, Any] | None:
    """The template that is made: until it is converted, the VM that is to be it."""
    template = Template.objects.subject_of(operation).shown().first()
    if template is not None:
        return template_body(template)
    vm = VirtualMachine.objects.subject_of(operation).select_related("cluster").first()
    return None if vm is None else draft_body(vm)


def draft_body(vm: VirtualMachine) -> dict[str, Any]:
    """In the shape of a template."""
    return {
        "id": str(vm.vmid),
        "uuid": str(vm.uuid),
        "cluster": vm.cluster.name,
        "name": vm.name,
        "description": vm.description,
        "status": vm.status,
        "os_type": vm.os_type,
        "node": vm.node,
        "nodes": [],
        "copies": [],
        "copy_of": None,
        "disk_size": vm.disk_gib,
        "tags": vm.tags,
        "cloud_init": True,
        "published": True,
        "project": None,
        "created_at": vm.created_at,
        "synced_at": vm.synced_at,
        "stale": False,
    }
