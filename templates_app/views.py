"""The API of templates."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import (
    PAGING,
    actor_of,
    is_storable,
    listing,
    page_of,
    refuse_unknown_params,
)
from clusters.models import Node
from operations.refusals import Conflict, NotFound
from templates_app.models import Template

GIB = 1024**3


class TemplateViewSet(ViewSet):
    """Templates: what VMs are made from."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"cluster", "name"} | PAGING)
        queryset = Template.objects.visible_to(actor_of(request)).select_related("cluster")
        if request.query_params.get("cluster"):
            queryset = queryset.filter(cluster__name=request.query_params["cluster"])
        if request.query_params.get("name"):
            queryset = queryset.filter(name=request.query_params["name"])
        rows, page = page_of(request, queryset)
        nodes = nodes_by_cluster(rows)
        return listing("templates", [template_body(t, nodes) for t in rows], page)

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster"})
        queryset = Template.objects.visible_to(actor_of(request)).select_related("cluster")
        if request.query_params.get("cluster"):
            queryset = queryset.filter(cluster__name=request.query_params["cluster"])
        found = list(queryset.filter(named(pk))[:2]) if is_storable(pk) else []
        if not found:
            raise NotFound("template_not_found", f"There is no template {pk[:64]!r}.")
        if len(found) > 1:
            which = " and ".join(f"{t.vmid} on {t.cluster}" for t in found)
            raise Conflict("template_ambiguous", f"Several templates answer to {pk!r}: {which}.")
        return Response(template_body(found[0], nodes_by_cluster(found)))


def named(wanted: str) -> Q:
    """A template by VMID, uuid or name."""
    if re.fullmatch(r"[0-9]{3,9}", wanted):
        return Q(vmid=int(wanted)) | Q(name=wanted)
    try:
        return Q(uuid=uuid.UUID(wanted)) | Q(name=wanted)
    except ValueError:
        return Q(name=wanted)


def nodes_by_cluster(templates: list[Template]) -> dict[int, list[str]]:
    """Online nodes of the clusters that have templates on shared storage."""
    clusters = {t.cluster_id for t in templates if t.is_on_shared_storage}
    nodes: dict[int, list[str]] = {pk: [] for pk in clusters}
    for node in Node.objects.filter(cluster__in=clusters, status="online", missing_since=None):
        nodes[node.cluster_id].append(node.name)
    return nodes


def template_body(template: Template, nodes: dict[int, list[str]]) -> dict[str, Any]:
    """A template as the API shows it; `nodes` are those that can make a VM of it."""
    disk_gib = template.disk_bytes / GIB
    return {
        "id": str(template.vmid),
        "uuid": str(template.uuid),
        "cluster": template.cluster.name,
        "name": template.name,
        "description": template.description,
        "os_type": template.os_type,
        "node": template.node,
        "nodes": nodes.get(template.cluster_id, [template.node])
        if template.is_on_shared_storage
        else [template.node],
        "disk_size": int(disk_gib) if disk_gib == int(disk_gib) else round(disk_gib, 2),
        "tags": template.tags,
        "cloud_init": template.has_cloud_init,
        "published": template.is_published,
        "created_at": template.created_at,
        "synced_at": template.synced_at,
        "stale": not template.cluster.is_online,
    }
