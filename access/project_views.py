"""The API of projects and their quotas."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from access import actions
from access.finding import find_project
from access.serializers import (
    LIMIT_OF,
    NewProjectSerializer,
    ProjectChangesSerializer,
    QuotaChangesSerializer,
    QuotaLimitsSerializer,
    project_body,
    quota_body,
)
from accounts.models import Project
from accounts.permissions import MayUseApi, OperatorsChange
from accounts.rest import (
    PAGING,
    StrictSerializer,
    actor_of,
    listing,
    page_of,
    parse,
    refuse_unknown_params,
)
from operations.rest import idempotent, shows
from vms.quota import usage_of


class ProjectViewSet(ViewSet):
    """Projects: whose VMs, tokens and quotas are."""

    lookup_value_regex = "[^/]+"
    permission_classes = [MayUseApi, OperatorsChange]

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, PAGING)
        rows, page = page_of(request, Project.objects.visible_to(actor_of(request)))
        return listing("projects", [project_body(project) for project in rows], page)

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        return Response(project_body(find_project(actor_of(request), pk)))

    @idempotent
    def create(self, request: Request) -> Response:
        refuse_unknown_params(request, set())
        checked = parse(NewProjectSerializer, request)
        project = actions.create_project(**checked, by=actor_of(request))
        headers = {"Location": f"/api/v1/projects/{project.uuid}"}
        return Response(project_body(project), status=201, headers=headers)

    @idempotent
    def partial_update(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        project = find_project(actor_of(request), pk)
        changes = parse(ProjectChangesSerializer, request)
        actions.change_project(project, changes=changes, by=actor_of(request))
        return Response(project_body(project))

    @idempotent
    def destroy(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        project = find_project(actor_of(request), pk)
        actions.delete_project(project, by=actor_of(request))
        return Response(status=204)


class QuotaViewSet(ViewSet):
    """Quotas: what each project uses, and what it may use at most."""

    lookup_value_regex = "[^/]+"
    permission_classes = [MayUseApi, OperatorsChange]

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, PAGING)
        projects = Project.objects.visible_to(actor_of(request)).select_related("quota")
        rows, page = page_of(request, projects)
        return listing("quotas", [quota_of(each) for each in rows], page)

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        return Response(quota_of(find_project(actor_of(request), pk)))

    @idempotent
    def update(self, request: Request, pk: str) -> Response:
        """PUT: the limits as given; what is not named has none."""
        return self._set(request, pk, QuotaLimitsSerializer)

    @idempotent
    def partial_update(self, request: Request, pk: str) -> Response:
        return self._set(request, pk, QuotaChangesSerializer)

    def _set(self, request: Request, pk: str, takes: type[StrictSerializer]) -> Response:
        refuse_unknown_params(request, set())
        project = find_project(actor_of(request), pk)
        checked = parse(takes, request)
        limits = {LIMIT_OF[name]: limit for name, limit in checked.items()}
        actions.set_quota(project, limits=limits, by=actor_of(request))
        return Response(quota_of(find_project(actor_of(request), str(project.uuid))))


def quota_of(project: Project) -> dict[str, Any]:
    return quota_body(project, usage_of(project).counted())


@shows("project")
def shown_project(request: Request, uuid: str) -> dict[str, Any]:
    return project_body(find_project(actor_of(request), uuid))


@shows("quota")
def shown_quota(request: Request, uuid: str) -> dict[str, Any]:
    return quota_of(find_project(actor_of(request), uuid))
