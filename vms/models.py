"""Virtual machines as customers know them, and the sizes they come in.

Three things are kept apart: what the customer wants (`name`, `cores`, … as asked), what is
happening (`doing`, the kind of the unfinished operation), and what the hypervisor says (`power`,
`lock`, `node`), which is always the authority. `status` is derived from them by the database.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.expressions import RawSQL

from accounts.actors import Actor
from accounts.models import Project
from accounts.prepared import Slot
from clusters.models import Cluster
from operations.models import Operation
from templates_app.models import TAG_LENGTH

RUNNING, STOPPED, PAUSED, SUSPENDED, UNKNOWN = (
    "running",
    "stopped",
    "paused",
    "suspended",
    "unknown",
)
POWERS = (RUNNING, STOPPED, PAUSED, SUSPENDED, UNKNOWN)
CREATING, STARTING, STOPPING, REBOOTING = "creating", "starting", "stopping", "rebooting"
DELETING, ERROR = "deleting", "error"
STATUSES = (CREATING, *POWERS, STARTING, STOPPING, REBOOTING, DELETING, ERROR)

# Kinds that make the VM they work on; some make a template of it in the end.
CREATIONS = ("create_vm", "install_vm", "clone_vm", "build_template", "copy_template")
# What a VM is shown as while an operation of this kind works on it.
STATUS_WHILE = {
    **dict.fromkeys(CREATIONS, CREATING),
    "start_vm": STARTING,
    "stop_vm": STOPPING,
    "shutdown_vm": STOPPING,
    "reboot_vm": REBOOTING,
    "delete_vm": DELETING,
}

# The API's words for an operating system, and what Proxmox is told.
OSTYPES = {"linux": "l26", "windows": "win11", "other": "other"}

CORES = (1, 128)
MEMORY_MIB = (256, 524_288)
DISK_GIB = (1, 10_240)
MIB, GIB = 1024**2, 1024**3
# The cluster's list lags up to 10 s behind; it counts for a VM again this long after an operation.
SETTLED_AFTER = datetime.timedelta(seconds=15)


# `/vms/sizes` is a path of its own, and a size's name goes into one.
IS_SIZE_NAME = RegexValidator(
    r"^[a-z0-9][a-z0-9_-]{0,39}$",
    "Give 1 to 40 small letters, digits, hyphens and underscores, the first a letter or digit.",
)


class Size(models.Model):
    """A named set of hardware (others say flavour, instance type)."""

    name = models.SlugField(max_length=40, unique=True, validators=[IS_SIZE_NAME])
    cores = models.PositiveIntegerField(
        validators=[MinValueValidator(CORES[0]), MaxValueValidator(CORES[1])]
    )
    memory_mib = models.PositiveIntegerField(
        "memory (MiB)",
        validators=[MinValueValidator(MEMORY_MIB[0]), MaxValueValidator(MEMORY_MIB[1])],
    )
    disk_gib = models.PositiveIntegerField(
        "disk (GiB)", validators=[MinValueValidator(DISK_GIB[0]), MaxValueValidator(DISK_GIB[1])]
    )
    description = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["cores", "memory_mib", "disk_gib", "name"]

    def __str__(self) -> str:
        return self.name


class VirtualMachineQuerySet(models.QuerySet["VirtualMachine"]):
    def visible_to(self, actor: Actor) -> VirtualMachineQuerySet:
        """Operators see all, others their project's; deleted ones are seen by nobody."""
        living = self.filter(deleted_at=None)
        return living if actor.is_operator else living.filter(project=actor.project)

    def subject_of(self, operation: Operation) -> VirtualMachineQuerySet:
        """The VM that an operation works on, deleted or not."""
        return self.filter(uuid=operation.subject) if operation.subject else self.none()


class VirtualMachine(models.Model):
    """A VM, from the moment its creation was accepted until it is gone from Proxmox."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.PROTECT, related_name="vms")
    vmid = models.PositiveIntegerField("VMID")
    node = models.CharField(max_length=63, blank=True)
    project = models.ForeignKey(Project, null=True, blank=True, on_delete=models.PROTECT)

    name = models.CharField(max_length=255, blank=True)
    description = models.TextField(blank=True)
    tags = ArrayField(models.CharField(max_length=TAG_LENGTH), default=list, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    is_protected = models.BooleanField(default=False)

    power = models.CharField(max_length=10, default=UNKNOWN)
    lock = models.CharField(max_length=20, blank=True)
    is_ha_managed = models.BooleanField(default=False)
    doing = models.CharField(
        max_length=40, blank=True, help_text="kind of the unfinished operation"
    )
    task = models.UUIDField(null=True, help_text="uuid of the unfinished operation")
    has_failed = models.BooleanField(default=False, help_text="its creation failed and it was kept")
    last_error = models.TextField(blank=True)
    status = models.GeneratedField(
        expression=Case(
            *(When(doing=kind, then=Value(shown)) for kind, shown in STATUS_WHILE.items()),
            When(has_failed=True, then=Value(ERROR)),
            default=F("power"),
        ),
        output_field=models.CharField(max_length=10),
        db_persist=True,
    )

    template_name = models.CharField(max_length=255, blank=True)
    os_type = models.CharField("OS type", max_length=10, default="linux")
    os_template = models.CharField(max_length=255, blank=True)
    size = models.ForeignKey(
        Size, null=True, blank=True, on_delete=models.SET_NULL, related_name="vms"
    )
    cores = models.PositiveIntegerField(default=0)
    memory_mib = models.PositiveIntegerField("memory (MiB)", default=0)
    # As the cluster's list showed them last: of a running VM what it runs with, which is not what
    # it is configured to have while a change waits for its next start.
    listed_cores = models.PositiveIntegerField(default=0, db_default=0)
    listed_memory_mib = models.PositiveIntegerField(default=0, db_default=0)
    disk_bytes = models.BigIntegerField(default=0)

    network = models.CharField(max_length=40, blank=True)
    mac_address = models.CharField("MAC address", max_length=17, blank=True)
    ip_address = models.GenericIPAddressField("IP address", null=True, protocol="IPv4")
    ipv6_address = models.GenericIPAddressField("IPv6 address", null=True, protocol="IPv6")
    cloud_init = models.JSONField(default=dict, blank=True, help_text="as set, without any secret")
    agent_enabled = models.BooleanField(default=False)

    # Who it is in Proxmox: new for each clone, kept by everything else.
    smbios_uuid = models.UUIDField(null=True)
    is_ours = models.BooleanField(default=False, help_text="made by this Izvor")
    marked_as = models.UUIDField(
        null=True, help_text="the VM that the mark in its description names; empty: it bears none"
    )

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    synced_at = models.DateTimeField(null=True)
    # From here on the cluster's list counts for it again (it lags up to 10 s behind an operation).
    settled_at = models.DateTimeField(null=True)
    details_at = models.DateTimeField(null=True, help_text="when config and agent were last read")
    snapshots_at = models.DateTimeField(null=True, help_text="when its snapshots were last read")
    missing_since = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    objects: ClassVar[Any] = VirtualMachineQuerySet.as_manager()

    class Meta:
        verbose_name = "virtual machine"
        ordering = ["id"]
        indexes = [
            models.Index(
                fields=["project", "id"], condition=Q(deleted_at=None), name="vms_of_a_project"
            ),
            models.Index(
                fields=["cluster", "node"], condition=Q(deleted_at=None), name="vms_of_a_node"
            ),
            models.Index(
                fields=["details_at"], condition=Q(deleted_at=None), name="vms_to_read_again"
            ),
            models.Index(fields=["name"], condition=Q(deleted_at=None), name="vms_by_name"),
            GinIndex(fields=["tags"], name="vms_by_tag"),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "vmid"],
                condition=Q(deleted_at=None),
                name="one_living_vm_per_vmid",
            ),
            models.CheckConstraint(
                condition=Q(doing="", task=None) | (~Q(doing="") & Q(task__isnull=False)),
                name="a_busy_vm_names_its_task",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.vmid} {self.name}".strip()

    @property
    def claim(self) -> str:
        """What claims on this VM are filed under."""
        return f"vm:{self.uuid}"

    @property
    def why_protected(self) -> str:
        """Why nothing is done to it that there is no way back from; "" where something may be."""
        if not self.is_protected:
            return ""
        return f"VM {self} is protected: set `protected` to false first."

    @property
    def shows_console(self) -> bool:
        """As far as is known here. A paused VM's screen stands still, and can be seen."""
        return self.missing_since is None and self.power in {RUNNING, PAUSED, UNKNOWN}

    @property
    def disk_gib(self) -> float:
        """GiB, as a whole number where it is one."""
        size = self.disk_bytes
        return round(size / GIB, 2) if size % GIB else size // GIB


def protected_in_proxmox(what: str) -> str:
    """Why this VM or template is not deleted while Proxmox's own `protection` is set."""
    return f"{what} is protected in Proxmox: unset `protection` there."


def is_template_now(vm: VirtualMachine) -> str:
    """Why it is not deleted as a VM."""
    return (
        f"VM {vm} is a template in Proxmox by now, which others may use: delete it as one, DELETE "
        f"/api/v1/templates/{vm.vmid}."
    )


class Snapshot(models.Model):
    """A snapshot, as Proxmox last showed it."""

    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="snapshots")
    name = models.CharField(max_length=40)
    description = models.TextField(blank=True)
    parent = models.CharField(max_length=40, blank=True)
    taken_at = models.DateTimeField(null=True)
    has_ram = models.BooleanField(default=False)

    class Meta:
        ordering = ["vm", "taken_at", "id"]
        constraints = [
            models.UniqueConstraint(fields=["vm", "name"], name="one_snapshot_per_name_and_vm")
        ]

    def __str__(self) -> str:
        return self.name


class UserData(models.Model):
    """A VM's own user-data, and the ISO image that brings it to cloud-init."""

    vm = models.OneToOneField(
        VirtualMachine, on_delete=models.CASCADE, primary_key=True, related_name="user_data"
    )
    sealed = models.TextField(help_text="what the ISO is made from, encrypted: clones need theirs")
    volume = models.CharField(max_length=255, help_text="the ISO's volume ID in Proxmox")

    def __str__(self) -> str:
        return self.volume


class VmUsage(models.Model):
    """What a VM uses now. Apart from its metadata, because it changes at every look."""

    vm = models.OneToOneField(
        VirtualMachine, on_delete=models.CASCADE, primary_key=True, related_name="usage"
    )
    cpu_percent = models.FloatField(default=0, help_text="of its cores")
    memory_used_bytes = models.BigIntegerField(default=0)
    disk_read_bytes = models.BigIntegerField(default=0)
    disk_write_bytes = models.BigIntegerField(default=0)
    net_in_bytes = models.BigIntegerField(default=0)
    net_out_bytes = models.BigIntegerField(default=0)
    uptime_s = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"usage of {self.vm_id}"


class GivenUpVmid(models.Model):
    """A provisional VMID that a foreign VM took; for a day the old number answers with the new."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE)
    vmid = models.PositiveIntegerField()
    vm = models.ForeignKey(VirtualMachine, on_delete=models.CASCADE, related_name="given_up_vmids")
    until = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["cluster", "vmid"], name="given_up_vmids_by_number")]

    def __str__(self) -> str:
        return f"{self.vmid} is now {self.vm.vmid}"

    @staticmethod
    def has(vmid: Slot) -> RawSQL:
        """Whether it is one, on any cluster."""
        exists = "EXISTS (SELECT FROM vms_givenupvmid WHERE vmid = %s AND until > now())"
        return RawSQL(exists, [vmid], models.BooleanField())  # noqa: S611  (a constant)
