"""The API of a VM's snapshots, read from Proxmox itself: it is the only one who knows them."""

from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from accounts.rest import StrictSerializer, actor_of, parse, refuse_unknown_params
from clusters.connect import connect
from operations.rest import accepted, idempotent
from proxmox.results import Snapshot
from vms import actions, fields
from vms.fields import StrictBooleanField, StrictCharField
from vms.views import find_vm

READ_S = 5.0


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
        refuse_unknown_params(request, {"cluster"})
        vm = find_vm(request, vm_pk)
        client = connect(vm.cluster, call_s=settings.ENGINE["call_s"])
        found = [
            snapshot_body(snapshot, vm.vmid)
            for snapshot in client.snapshots(vm.node, vm.vmid, timeout_s=READ_S)
            if not snapshot.is_current
        ]
        return Response({"snapshots": found, "count": len(found), "next": None})

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


def snapshot_body(snapshot: Snapshot, vmid: int) -> dict[str, Any]:
    created = snapshot.created_at
    return {
        "name": snapshot.name,
        "description": snapshot.description,
        "vmid": str(vmid),
        "parent": snapshot.parent,
        "created_at": datetime.datetime.fromtimestamp(created, datetime.UTC) if created else None,
        "vm_state": snapshot.has_ram,
    }
