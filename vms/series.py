"""Usage over time, as Proxmox keeps it for VMs and nodes alike."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Any

from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from clusters.models import Cluster
from operations.refusals import Conflict
from proxmox.results import UsagePoint
from vms.models import CREATIONS, VirtualMachine
from vms.preflight import client_of
from vms.refresh import find_itself

TIMEFRAMES = ("hour", "day", "week", "month", "year")
READ_S = 5.0


def series_body(request: Request, cluster: Cluster, node: str) -> dict[str, Any]:
    """`?timeframe=` of a node. Raises ValidationError, Unavailable, ProxmoxError."""
    timeframe = timeframe_of(request)
    return body_of(timeframe, read_points(cluster, node, None, timeframe))


def vm_series_body(request: Request, vm: VirtualMachine) -> dict[str, Any]:
    """`?timeframe=` of this very VM. Raises ValidationError, Refusal, ProxmoxError."""
    timeframe = timeframe_of(request)
    if vm.doing in CREATIONS and vm.smbios_uuid is None:
        raise Conflict("wrong_state", f"VM {vm} is not far enough to have metrics yet.")
    find_itself(vm, client_of(vm.cluster))
    return body_of(timeframe, read_points(vm.cluster, vm.node, vm.vmid, timeframe))


def timeframe_of(request: Request) -> str:
    """Raises ValidationError."""
    timeframe = request.query_params.get("timeframe", "hour")
    if timeframe not in TIMEFRAMES:
        raise ValidationError({"timeframe": [f"Give one of {', '.join(TIMEFRAMES)}."]})
    return str(timeframe)


def body_of(timeframe: str, points: Iterable[UsagePoint]) -> dict[str, Any]:
    return {"timeframe": timeframe, "metrics": [point_body(point) for point in points]}


def read_points(
    cluster: Cluster, node: str, vmid: int | None, timeframe: str, *, timeout_s: float = READ_S
) -> tuple[UsagePoint, ...]:
    """As Proxmox has measured them. Raises Unavailable, ProxmoxError."""
    return client_of(cluster).rrddata(node, vmid, timeframe, timeout_s=timeout_s)


def point_body(point: UsagePoint) -> dict[str, Any]:
    """Percent, bytes, and bytes a second; null where nothing was measured."""
    cpu = point.cpu_fraction
    return {
        "time": datetime.datetime.fromtimestamp(point.at, datetime.UTC),
        "cpu_usage": None if cpu is None else round(100 * cpu, 2),
        "memory": point.memory_bytes,
        "memory_used": point.memory_used_bytes,
        "disk": point.disk_bytes,
        "disk_used": point.disk_used_bytes,
        "disk_read": point.disk_read_bytes_per_s,
        "disk_write": point.disk_write_bytes_per_s,
        "net_in": point.net_in_bytes_per_s,
        "net_out": point.net_out_bytes_per_s,
    }
