"""The API of a VM's snapshots."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import (
    PAGING,
    StrictSerializer,
    actor_of,
    listing,
    page_of_list,
    parse,
    refuse_unknown_params,
)
from operations.rest import accepted, flag_of, idempotent
from vms import actions, fields
from vms.bodies import snapshot_body
from vms.fields import StrictBooleanField, StrictCharField
from vms.models import Snapshot
from vms.refresh import refresh_vm
from vms.serializers import is_stale
from vms.views import find_vm


class NewSnapshotSerializer(StrictSerializer):
    name = StrictCharField(validators=[fields.check_snapshot_name])
    description = StrictCharField(max_length=4096, default="", allow_blank=True)
    include_ram = StrictBooleanField(default=False)


class RollbackSerializer(StrictSerializer):
    start = StrictBooleanField(default=False)


class SnapshotViewSet(ViewSet):
    """Snapshots."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request, vm_pk: str) -> Response:
        refuse_unknown_params(request, {"cluster", "refresh"} | PAGING)
        vm = find_vm(request, vm_pk)
        if flag_of(request, "refresh") or vm.snapshots_at is None:
            refresh_vm(vm)
            vm.refresh_from_db()
        rows, page = page_of_list(request, vm.snapshots.all(), place_of)
        seen = {"synced_at": vm.snapshots_at, "stale": is_stale(vm)}
        return listing("snapshots", [snapshot_body(row, vm.vmid) for row in rows], page | seen)

    @idempotent
    def create(self, request: Request, vm_pk: str) -> Response:
        refuse_unknown_params(request, {"cluster"})
        vm = find_vm(request, vm_pk)
        checked = parse(NewSnapshotSerializer, request)
        operation = actions.take_snapshot(
            vm=vm,
            name=checked["name"],
            description=checked["description"],
            include_ram=checked["include_ram"],
            by=actor_of(request),
        )
        return accepted(operation)

    @idempotent
    def destroy(self, request: Request, vm_pk: str, pk: str) -> Response:
        refuse_unknown_params(request, {"cluster"})
        vm = find_vm(request, vm_pk)
        return accepted(actions.delete_snapshot(vm=vm, name=pk, by=actor_of(request)))

    @idempotent
    def rollback(self, request: Request, vm_pk: str, pk: str) -> Response:
        """Back to it; what has changed since is lost."""
        refuse_unknown_params(request, {"cluster"})
        vm = find_vm(request, vm_pk)
        checked = parse(RollbackSerializer, request)
        operation = actions.rollback_snapshot(
            vm=vm, name=pk, start=checked["start"], by=actor_of(request)
        )
        return accepted(operation)


def place_of(snapshot: Snapshot) -> list[str]:
    """In the order in which they were taken, as far as that is known."""
    return [snapshot.taken_at.isoformat() if snapshot.taken_at else "", snapshot.name]
