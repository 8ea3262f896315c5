"""The API of sizes, which operators make."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.permissions import MayUseApi, OperatorsChange
from accounts.prepared import Columns
from accounts.rest import (
    PAGING,
    Listed,
    StrictSerializer,
    actor_of,
    is_storable,
    listing,
    page_by_keys,
    parse,
    refuse_unknown_params,
)
from operations.refusals import NotFound
from operations.rest import idempotent, shows
from vms import sizes
from vms.fields import StrictCharField, StrictIntegerField
from vms.models import CORES, DISK_GIB, IS_SIZE_NAME, MEMORY_MIB, Size

COLUMNS = {"memory": "memory_mib", "disk_size": "disk_gib"}


class SizeChangesSerializer(StrictSerializer):
    """`PATCH /sizes/{name}`."""

    cores = StrictIntegerField(min_value=CORES[0], max_value=CORES[1], required=False)
    memory = StrictIntegerField(
        min_value=MEMORY_MIB[0], max_value=MEMORY_MIB[1], required=False, help_text="MiB"
    )
    disk_size = StrictIntegerField(
        min_value=DISK_GIB[0], max_value=DISK_GIB[1], required=False, help_text="GiB"
    )
    description = StrictCharField(max_length=200, required=False, allow_blank=True)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError("Name at least one field to change.")
        return {COLUMNS.get(name, name): value for name, value in attrs.items()}


class NewSizeSerializer(SizeChangesSerializer):
    """`POST /sizes`."""

    name = StrictCharField(max_length=40, validators=[IS_SIZE_NAME])
    cores = StrictIntegerField(min_value=CORES[0], max_value=CORES[1])
    memory = StrictIntegerField(min_value=MEMORY_MIB[0], max_value=MEMORY_MIB[1], help_text="MiB")
    disk_size = StrictIntegerField(min_value=DISK_GIB[0], max_value=DISK_GIB[1], help_text="GiB")


def find_size(name: str) -> Size:
    size = Size.objects.filter(name=name).first() if is_storable(name) else None
    if size is None:
        raise NotFound("size_not_found", f"There is no size {name[:64]!r}.")
    return size


SIZES = Listed(lambda by, asked: Size.objects.all())
SHOWN = ("name", "cores", "memory_mib", "disk_gib", "description")
ROWS = Columns(lambda: Size.objects.values_list("pk", *SHOWN))


def size_body(size: Size) -> dict[str, Any]:
    return body_of(*(getattr(size, name) for name in SHOWN))


def body_of(name: str, cores: int, memory: int, disk_size: int, description: str) -> dict[str, Any]:
    """As the API shows it."""
    return {
        "name": name,
        "cores": cores,
        "memory": memory,
        "disk_size": disk_size,
        "description": description,
    }


class SizeViewSet(ViewSet):
    """Sizes: named sets of hardware."""

    lookup_value_regex = "[^/]+"
    permission_classes = [MayUseApi, OperatorsChange]

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, PAGING)
        return listing(
            "sizes", *page_by_keys(request, SIZES, {}, ROWS, lambda row: body_of(*row[1:]))
        )

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        return Response(size_body(find_size(pk)))

    @idempotent
    def create(self, request: Request) -> Response:
        refuse_unknown_params(request, set())
        size = sizes.create_size(values=parse(NewSizeSerializer, request), by=actor_of(request))
        headers = {"Location": f"/api/v1/sizes/{size.name}"}
        return Response(size_body(size), status=201, headers=headers)

    @idempotent
    def partial_update(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        size = find_size(pk)
        changes = parse(SizeChangesSerializer, request)
        sizes.change_size(size, changes=changes, by=actor_of(request))
        return Response(size_body(size))

    @idempotent
    def destroy(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        sizes.delete_size(find_size(pk), by=actor_of(request))
        return Response(status=204)


@shows("size")
def shown_size(request: Request, name: str) -> dict[str, Any]:
    return size_body(find_size(name))
