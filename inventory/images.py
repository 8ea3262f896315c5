"""ISO and cloud images on the storages, asked from Proxmox when somebody wants to see them."""

from __future__ import annotations

import datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import PAGING, listing, page_of_list, refuse_unknown_params
from clusters.models import Storage
from operations.refusals import Unavailable
from operations.rest import flag_of
from proxmox.results import StorageContent
from vms.images import IMPORT, ISO, list_images, lost_clusters

# A filter of the API, and the storage's field it narrows down.
FILTERS = {"cluster": "cluster__name", "node": "node", "storage": "name"}


def images_asked_for(request: Request, key: str, content: str) -> Response:
    # Proxmox is asked in any case.
    refuse_unknown_params(request, FILTERS.keys() | {"refresh"} | PAGING)
    flag_of(request, "refresh")
    asked = request.query_params
    images = list_images(
        content, **{FILTERS[name]: asked[name] for name in FILTERS if asked.get(name)}
    )
    named = {"name": asked["cluster"]} if asked.get("cluster") else {}
    silent = [*lost_clusters(**named), *images.silent]
    if silent and not images.answered:
        # An empty list would say that there are none.
        raise Unavailable("cluster_unavailable", "; ".join(silent))
    rows, page = page_of_list(request, images.found, place_of)
    return listing(key, [image_body(*row) for row in rows], page | {"warnings": silent})


def place_of(found: tuple[Storage, StorageContent]) -> list[str]:
    storage, image = found
    return [*storage.place, image.volid]


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
        return images_asked_for(request, "isos", ISO)


class ImageViewSet(ViewSet):
    """Cloud images that templates can be made from."""

    def list(self, request: Request) -> Response:
        return images_asked_for(request, "images", IMPORT)
