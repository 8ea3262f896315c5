"""Quotas, as sums over the rows themselves: there is no counter that could drift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.db.models import Count, Sum

from accounts.models import Project, Quota
from accounts.prepared import Prepared, Slot
from operations.models import Operation
from operations.refusals import Conflict, NotAllowed
from templates_app.models import Template
from vms.models import GIB, Snapshot, VirtualMachine


@dataclass(frozen=True)
class Amount:
    """Of what quotas limit: VMs, cores, MiB of memory, bytes of disk, snapshots."""

    vms: int = 0
    cores: int = 0
    memory_mib: int = 0
    disk_bytes: int = 0
    snapshots: int = 0

    @classmethod
    def of(cls, vm: VirtualMachine) -> Amount:
        """Without its snapshots."""
        return cls(1, vm.cores, vm.memory_mib, vm.disk_bytes)

    @classmethod
    def of_growth(
        cls, vm: VirtualMachine, *, cores: int, memory_mib: int, disk_bytes: int
    ) -> Amount:
        """What the VM takes more when it is given so much; to get less gives nothing back yet."""
        return cls(
            cores=max(0, cores - vm.cores),
            memory_mib=max(0, memory_mib - vm.memory_mib),
            disk_bytes=max(0, disk_bytes - vm.disk_bytes),
        )

    def __add__(self, more: Amount) -> Amount:
        return Amount(
            self.vms + more.vms,
            self.cores + more.cores,
            self.memory_mib + more.memory_mib,
            self.disk_bytes + more.disk_bytes,
            self.snapshots + more.snapshots,
        )

    def counted(self) -> dict[str, int]:
        """In the API's words and units: memory in MiB, disk in GiB."""
        return {
            "vms": self.vms,
            "cores": self.cores,
            "memory": self.memory_mib,
            "disk": -(-self.disk_bytes // GIB),
            "snapshots": self.snapshots,
        }


# Kinds whose VM may be larger at the end: `growth` among their words says by how much.
GROWING = ("update_vm", "rollback_snapshot")
UNITS = {
    "vms": "VMs",
    "cores": "cores",
    "memory": "MiB of memory",
    "disk": "GiB of disk",
    "snapshots": "snapshots",
}


def hold(project: Project) -> Project:
    """Nobody deletes it before the transaction ends, so that what is made in it has a home.

    Raises Conflict if somebody has.
    """
    if not project.hold()():
        raise gone(project)
    return project


def gone(project: Project) -> Conflict:
    return Conflict("project_gone", f"Project {project} was deleted meanwhile.")


QUOTAS = Prepared(lambda: Quota.objects.select_for_update().filter(project=Slot("project")))


class Headroom:
    """What a project may still take. In the transaction that writes the rows.

    The project's quota is locked, so that parallel requests are counted one after the other.
    """

    def __init__(self, project: Project | None, *, quota: Quota | None) -> None:
        self.project = project
        self.quota = quota
        self.used = usage_of(project) if quota else Amount()
        self.added = Amount()

    @classmethod
    def of(cls, project: Project | None) -> Headroom:
        """As `ask`, at once."""
        return cls.ask(project)()

    @classmethod
    def ask(cls, project: Project | None) -> Callable[[], Headroom]:
        """As `accounts.sql.ask`. Raises Conflict if the project was deleted meanwhile."""
        if project is None:
            return lambda: cls(None, quota=None)
        is_there, quota = project.hold(), QUOTAS.ask(project=project.pk)

        def answer() -> Headroom:
            if not is_there():
                raise gone(project)
            return cls(project, quota=next(iter(quota()), None))

        return answer

    @property
    def limits(self) -> dict[str, int | None]:
        quota = self.quota
        if quota is None:
            return dict.fromkeys(UNITS)
        return {
            "vms": quota.vms,
            "cores": quota.cores,
            "memory": quota.memory_mib,
            "disk": quota.disk_gib,
            "snapshots": quota.snapshots,
        }

    def take(self, more: Amount) -> None:
        """Raises NotAllowed, naming what would be exceeded; then nothing is taken."""
        after = (self.used + self.added + more).counted()
        before = (self.used + self.added).counted()
        for name, limit in self.limits.items():
            if limit is not None and after[name] > max(limit, before[name]):
                raise NotAllowed(
                    "quota_exceeded",
                    f"Project {self.project} may have {limit} {UNITS[name]}; it has "
                    f"{before[name]} and this needs {after[name] - before[name]}.",
                )
        self.added += more

    def effect(self) -> dict[str, dict[str, int | None]]:
        """What is used, added and allowed; nothing where there is no quota."""
        if self.quota is None:
            return {}
        used, added = self.used.counted(), self.added.counted()
        return {
            name: {"used": used[name], "adds": added[name], "limit": limit}
            for name, limit in self.limits.items()
        }


def usage_of(project: Project | None) -> Amount:
    """What the project's living VMs take, those that grow at the moment when they have grown, and
    the disks of its own templates."""
    sums = VirtualMachine.objects.filter(project=project, deleted_at=None).aggregate(
        vms=Count("id"), cores=Sum("cores"), memory_mib=Sum("memory_mib"), disk=Sum("disk_bytes")
    )
    used = Amount(
        sums["vms"],
        sums["cores"] or 0,
        sums["memory_mib"] or 0,
        sums["disk"] or 0,
        Snapshot.objects.filter(vm__project=project, vm__deleted_at=None).count(),
    )
    own = Template.objects.living().own_of(project)
    used += Amount(disk_bytes=own.aggregate(disk=Sum("disk_bytes"))["disk"] or 0)
    coming = Operation.objects.unfinished().filter(project=project)
    used += Amount(snapshots=coming.filter(kind="take_snapshot").count())
    growing = coming.filter(kind__in=GROWING)
    for growth in growing.values_list("params__growth", flat=True):
        used += Amount(**(growth or {}))
    return used
