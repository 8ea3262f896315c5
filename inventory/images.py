"""ISO and cloud images on the storages, asked from Proxmox when somebody wants to see them."""

from __future__ import annotations

import datetime
from typing import Any

import structlog
from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import refuse_unknown_params
from clusters.connect import connect
from clusters.models import ONLINE, Cluster, Storage
from proxmox import ProxmoxError
from proxmox.results import StorageContent

log = structlog.get_logger(__name__)

READ_S = 5.0
FILTERS = {"cluster", "node", "storage"}


def storages_with(content: str, request: Request) -> list[Storage]:
    """Storages that can hold it, each shared one once, on nodes that are there."""
    storages = Storage.objects.filter(
        content__contains=[content],
        is_available=True,
        missing_since=None,
        cluster__in=Cluster.objects.filter(is_enabled=True, state=ONLINE),
    ).select_related("cluster")
    columns = {"cluster": "cluster__name", "node": "node", "storage": "name"}
    for name, column in columns.items():
        if request.query_params.get(name):
            storages = storages.filter(**{column: request.query_params[name]})
    once: list[Storage] = storages.each_once()
    return once


def list_images(content: str, request: Request) -> tuple[list[dict[str, Any]], list[str]]:
    """What lies there, and a sentence for each storage that did not answer."""
    found, silent = [], []
    for storage in storages_with(content, request):
        client = connect(storage.cluster, call_s=settings.ENGINE["call_s"])
        try:
            images = client.storage_content(
                storage.node, storage.name, content=content, timeout_s=READ_S
            )
        except ProxmoxError as error:
            silent.append(f"{storage} of {storage.cluster} did not answer: {error}")
            continue
        found += [image_body(storage, image) for image in images]
    return found, silent


def image_body(storage: Storage, image: StorageContent) -> dict[str, Any]:
    created = image.created_at
    return {
        "id": image.volid,
        "name": image.volid.rpartition("/")[2],
        "cluster": storage.cluster.name,
        "node": None if storage.is_shared else storage.node,
        "storage": storage.name,
        "format": image.format,
        "size": image.size_bytes,
        "created_at": datetime.datetime.fromtimestamp(created, datetime.UTC) if created else None,
    }


class IsoViewSet(ViewSet):
    """ISO images, for installing."""

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, FILTERS)
        found, silent = list_images("iso", request)
        return Response({"isos": found, "count": len(found), "next": None, "warnings": silent})


class ImageViewSet(ViewSet):
    """Cloud images that templates can be made from."""

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, FILTERS)
        found, silent = list_images("import", request)
        return Response({"images": found, "count": len(found), "next": None, "warnings": silent})
