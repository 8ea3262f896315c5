"""Templates: what VMs are cloned from."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.actors import Actor
from clusters.models import Cluster

OS_TYPES = ("linux", "windows", "other")


def os_type_of(ostype: str) -> str:
    """Proxmox's `ostype` (l26, win11, solaris …) in the API's three words."""
    if ostype in {"l24", "l26"}:
        return "linux"
    return "windows" if ostype.startswith(("w2k", "wvista", "win", "wxp")) else "other"


class TemplateQuerySet(models.QuerySet["Template"]):
    def visible_to(self, actor: Actor) -> TemplateQuerySet:
        """Published templates are for everyone, the others for operators."""
        here = self.filter(missing_since=None, cluster__is_enabled=True)
        return here if actor.is_operator else here.filter(is_published=True)


class Template(models.Model):
    """A Proxmox template. Name, description and place follow Proxmox; `is_published` is ours."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="templates")
    vmid = models.PositiveIntegerField("VMID", editable=False)
    node = models.CharField(max_length=63, editable=False)
    name = models.CharField(max_length=255, editable=False)
    description = models.TextField(blank=True, editable=False)
    os_type = models.CharField(max_length=10, default="linux", editable=False)
    tags = ArrayField(models.CharField(max_length=100), default=list, editable=False)
    disk_bytes = models.BigIntegerField(default=0, editable=False)
    cores = models.PositiveIntegerField(default=1, editable=False)
    memory_mib = models.PositiveIntegerField("memory (MiB)", default=0, editable=False)
    storages = ArrayField(models.CharField(max_length=100), default=list, editable=False)
    is_on_shared_storage = models.BooleanField(default=False, editable=False)
    has_cloud_init = models.BooleanField(default=False, editable=False)
    is_published = models.BooleanField(
        default=True, help_text="Off: only operators see it and make VMs from it."
    )
    created_at = models.DateTimeField(null=True, editable=False)
    synced_at = models.DateTimeField(editable=False)
    details_at = models.DateTimeField(null=True, editable=False)
    missing_since = models.DateTimeField(null=True, editable=False)

    objects: ClassVar[Any] = TemplateQuerySet.as_manager()

    class Meta:
        ordering = ["name", "vmid"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "vmid"],
                condition=Q(missing_since=None),
                name="one_living_template_per_vmid",
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.vmid})"

    @property
    def claim(self) -> str:
        """What claims on this template are filed under."""
        return f"template:{self.uuid}"
