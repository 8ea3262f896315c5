"""Quotas, as sums over the rows themselves: there is no counter that could drift."""

from __future__ import annotations

from django.db.models import Count, Sum

from accounts.models import Project, Quota
from operations.refusals import NotAllowed
from vms.models import GIB, VirtualMachine

UNITS = {"vms": "VMs", "cores": "cores", "memory": "MiB of memory", "disk": "GiB of disk"}


def check_quota(
    project: Project | None, *, vms: int, cores: int, memory_mib: int, disk_bytes: int
) -> dict[str, dict[str, int | None]]:
    """Would this much more still fit? In the transaction that writes the VM's row.

    The project's quota is locked, so that parallel requests are counted one after the other.
    Returns what is used, added and allowed. Raises NotAllowed, naming what would be exceeded.
    """
    quota = Quota.objects.select_for_update().filter(project=project).first() if project else None
    if quota is None:
        return {}
    limits = (quota.vms, quota.cores, quota.memory_mib, quota.disk_gib)
    more = (vms, cores, memory_mib, -(-disk_bytes // GIB))
    effect: dict[str, dict[str, int | None]] = {}
    for (name, used), adds, limit in zip(usage_of(project).items(), more, limits, strict=True):
        if limit is not None and used + adds > limit:
            raise NotAllowed(
                "quota_exceeded",
                f"Project {project} may have {limit} {UNITS[name]}; "
                f"it has {used} and this needs {adds}.",
            )
        effect[name] = {"used": used, "adds": adds, "limit": limit}
    return effect


def usage_of(project: Project | None) -> dict[str, int]:
    """What the project's living VMs take, in the order and units of UNITS."""
    sums = VirtualMachine.objects.filter(project=project, deleted_at=None).aggregate(
        vms=Count("id"), cores=Sum("cores"), memory_mib=Sum("memory_mib"), disk=Sum("disk_bytes")
    )
    return {
        "vms": sums["vms"],
        "cores": sums["cores"] or 0,
        "memory": sums["memory_mib"] or 0,
        "disk": -(-(sums["disk"] or 0) // GIB),
    }
