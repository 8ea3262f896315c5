"""ISO and cloud images on the storages, asked from Proxmox when somebody wants to see them."""

from __future__ import annotations

import datetime
from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import refuse_unknown_params
from clusters.models import Storage
from proxmox.results import StorageContent
from vms.images import IMPORT, ISO, Listing, list_images

# A filter of the API, and the storage's field it narrows down.
FILTERS = {"cluster": "cluster__name", "node": "node", "storage": "name"}


def images_asked_for(content: str, request: Request) -> Listing:
    refuse_unknown_params(request, set(FILTERS))
    asked = request.query_params
    return list_images(
        content, **{FILTERS[name]: asked[name] for name in FILTERS if asked.get(name)}
    )


def listing_body(key: str, listing: Listing) -> dict[str, Any]:
    images = [image_body(storage, image) for storage, image in listing.found]
    return {key: images, "count": len(images), "next": None, "warnings": listing.silent}


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
        listing = images_asked_for(ISO, request)
        return Response(listing_body("isos", listing))


class ImageViewSet(ViewSet):
    """Cloud images that templates can be made from."""

    def list(self, request: Request) -> Response:
        listing = images_asked_for(IMPORT, request)
        return Response(listing_body("images", listing))
