"""Quotas, as sums over the rows themselves: there is no counter that could drift."""

from __future__ import annotations

from django.db.models import Count, Sum

from accounts.models import Project, Quota
from operations.refusals import NotAllowed
from vms.models import GIB, VirtualMachine


def check_quota(
    project: Project | None, *, vms: int, cores: int, memory_mib: int, disk_bytes: int
) -> None:
    """Would this much more still fit? In the transaction that writes the VM's row.

    The project's quota is locked, so that parallel requests are counted one after the other.
    Raises NotAllowed, naming what would be exceeded.
    """
    quota = Quota.objects.select_for_update().filter(project=project).first() if project else None
    if quota is None:
        return
    used = usage_of(project)
    wanted = {
        "vms": (vms, quota.vms, "VMs"),
        "cores": (cores, quota.cores, "cores"),
        "memory_mib": (memory_mib, quota.memory_mib, "MiB of memory"),
        "disk_gib": (-(-disk_bytes // GIB), quota.disk_gib, "GiB of disk"),
    }
    for name, (more, limit, unit) in wanted.items():
        if limit is not None and used[name] + more > limit:
            raise NotAllowed(
                "quota_exceeded",
                f"Project {project} may have {limit} {unit}; "
                f"it has {used[name]} and this needs {more}.",
            )


def usage_of(project: Project | None) -> dict[str, int]:
    """What the project's living VMs take, in the units of its quota."""
    sums = VirtualMachine.objects.filter(project=project, deleted_at=None).aggregate(
        vms=Count("id"), cores=Sum("cores"), memory_mib=Sum("memory_mib"), disk=Sum("disk_bytes")
    )
    return {
        "vms": sums["vms"],
        "cores": sums["cores"] or 0,
        "memory_mib": sums["memory_mib"] or 0,
        "disk_gib": -(-(sums["disk"] or 0) // GIB),
    }
