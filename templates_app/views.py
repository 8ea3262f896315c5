"""The API of templates."""

from __future__ import annotations

from typing import Any

from django.db.models import Q
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import (
    PAGING,
    actor_of,
    as_uuid,
    as_vmid,
    is_storable,
    listing,
    page_of,
    refuse_unknown_params,
)
from clusters.models import Node
from operations.refusals import Conflict, NotFound
from operations.rest import refresh_if_asked
from templates_app.models import Template

GIB = 1024**3


class TemplateViewSet(ViewSet):
    """Templates: what VMs are made from."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"cluster", "name", "refresh"} | PAGING)
        refresh_if_asked(request)
        queryset = Template.objects.visible_to(actor_of(request)).originals().shown()
        if request.query_params.get("cluster"):
            queryset = queryset.filter(cluster__name=request.query_params["cluster"])
        if request.query_params.get("name"):
            queryset = queryset.filter(name=request.query_params["name"])
        rows, page = page_of(request, queryset)
        online = online_nodes(rows)
        return listing("templates", [template_body(t, online) for t in rows], page)

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"})
        refresh_if_asked(request)
        return Response(template_body(find_template(request, pk)))


def find_template(request: Request, wanted: str) -> Template:
    """By VMID, uuid or name; a copy only by the first two. Raises NotFound, Conflict."""
    queryset = Template.objects.visible_to(actor_of(request)).shown()
    if request.query_params.get("cluster"):
        queryset = queryset.filter(cluster__name=request.query_params["cluster"])
    found = list(queryset.filter(named(wanted))[:2]) if is_storable(wanted) else []
    if not found:
        raise NotFound("template_not_found", f"There is no template {wanted[:64]!r}.")
    if len(found) > 1:
        which = " and ".join(f"{t.vmid} on {t.cluster}" for t in found)
        raise Conflict("template_ambiguous", f"Several templates answer to {wanted!r}: {which}.")
    return found[0]


def named(wanted: str) -> Q:
    by_name = Q(name=wanted, copy_of=None)
    vmid = as_vmid(wanted)
    return by_name | (Q(uuid=as_uuid(wanted)) if vmid is None else Q(vmid=vmid))


Online = dict[int, list[str]]


def online_nodes(templates: list[Template]) -> Online:
    """By cluster, for those that have templates, or copies of them, on shared storage."""
    clusters = {t.cluster_id for t in templates if is_everywhere(t.family())}
    nodes: Online = {pk: [] for pk in clusters}
    for node in Node.objects.filter(cluster__in=clusters, status="online", missing_since=None):
        nodes[node.cluster_id].append(node.name)
    return nodes


def is_everywhere(family: list[Template]) -> bool:
    return any(member.is_on_shared_storage for member in family)


def template_body(template: Template, online: Online | None = None) -> dict[str, Any]:
    """A template as the API shows it; `nodes` are those on which a VM of it needs no move."""
    disk_gib = template.disk_bytes / GIB
    family = template.family()
    nodes = sorted({member.node for member in family})
    if is_everywhere(family):
        nodes = (online_nodes([template]) if online is None else online)[template.cluster_id]
    return {
        "id": str(template.vmid),
        "uuid": str(template.uuid),
        "cluster": template.cluster.name,
        "name": template.name,
        "description": template.description,
        "status": "deleted" if template.missing_since else "ready",
        "os_type": template.os_type,
        "node": template.node,
        "nodes": nodes,
        "copies": [{"id": str(copy.vmid), "node": copy.node} for copy in family[1:]],
        "copy_of": str(template.copy_of.vmid) if template.copy_of else None,
        "disk_size": int(disk_gib) if disk_gib == int(disk_gib) else round(disk_gib, 2),
        "tags": template.tags,
        "cloud_init": template.has_cloud_init,
        "published": template.original.is_published,
        "project": template.project.name if template.project else None,
        "created_at": template.created_at,
        "synced_at": template.synced_at,
        "stale": not template.cluster.is_online,
    }
