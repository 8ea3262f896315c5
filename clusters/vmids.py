"""Choosing VMIDs. A number is reserved by the row that bears it; this only finds the next one."""

from __future__ import annotations

from collections.abc import Callable

from django.db import transaction

from clusters.models import Cluster, VmidCursor


class NoVmidLeft(Exception):
    """Every VMID of the cluster's range is in use; an operator can widen the range."""


def next_vmid(cluster: Cluster, is_taken: Callable[[int], bool]) -> int:
    """The next number upward that `is_taken` does not know, wrapping around once.

    Nobody else is given the same number: the cursor's row is locked while it moves.
    Raises NoVmidLeft.
    """
    with transaction.atomic():
        cursors = VmidCursor.objects.select_for_update().filter(cluster=cluster)
        cursor = cursors.first()
        if cursor is None:
            first = {"next_vmid": cluster.vmid_min}
            VmidCursor.objects.get_or_create(cluster=cluster, defaults=first)
            cursor = cursors.get()
        start = cursor.next_vmid
        if not cluster.vmid_min <= start <= cluster.vmid_max:
            start = cluster.vmid_min
        vmid = start
        while is_taken(vmid):
            vmid = vmid + 1 if vmid < cluster.vmid_max else cluster.vmid_min
            if vmid == start:
                raise NoVmidLeft(
                    f"All VMIDs of {cluster}, {cluster.vmid_min} to {cluster.vmid_max}, are used."
                )
        cursor.next_vmid = vmid + 1 if vmid < cluster.vmid_max else cluster.vmid_min
        cursor.save(update_fields=["next_vmid"])
        return vmid
