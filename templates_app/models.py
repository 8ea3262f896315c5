"""Templates: what VMs are cloned from."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import Q

from accounts.actors import Actor
from accounts.models import Project
from clusters.models import Cluster
from operations.models import Operation

# Of a VM's tag, too.
TAG_LENGTH = 100
OS_TYPES = ("linux", "windows", "other")


def os_type_of(ostype: str) -> str:
    """Proxmox's `ostype` (l26, win11, solaris …) in the API's three words."""
    if ostype in {"l24", "l26"}:
        return "linux"
    return "windows" if ostype.startswith(("w2k", "wvista", "win", "wxp")) else "other"


class TemplateQuerySet(models.QuerySet["Template"]):
    def subject_of(self, operation: Operation) -> TemplateQuerySet:
        """The template that an operation has made or deletes, deleted or not."""
        return self.filter(uuid=operation.subject) if operation.subject else self.none()

    def living(self) -> TemplateQuerySet:
        return self.filter(missing_since=None)

    def originals(self) -> TemplateQuerySet:
        """Each template once, its copies on other nodes left out."""
        return self.filter(copy_of=None)

    def shown(self) -> TemplateQuerySet:
        """With what the API shows beside the row."""
        return self.select_related("cluster", "copy_of", "project").prefetch_related("copies")

    def mark_missing(self, at: datetime.datetime, **values: Any) -> int:
        """They are no longer on their cluster; where copies are left, the first takes its place.

        Marked, not dropped. Gives how many were there until now.
        """
        with transaction.atomic():
            gone = list(self.living().select_for_update().values_list("pk", flat=True))
            Template.objects.filter(pk__in=gone).update(missing_since=at, **values)
            Template.objects.give_heirs()
        return len(gone)

    def give_heirs(self) -> None:
        """No copy stays filed under an original that is gone: the first takes its place, and the
        others, with the one that is gone, are filed under it."""
        orphans = self.living().filter(copy_of__missing_since__isnull=False).order_by("vmid")
        held = orphans.select_for_update(of=("self",)).select_related("copy_of")
        while copy := held.first():
            former = copy.copy_of
            assert former is not None, "the filter wants it"
            copy.copy_of_id = former.copy_of_id
            copy.is_published, copy.project_id = former.is_published, former.project_id
            copy.save(update_fields=["copy_of", "is_published", "project"])
            if former.copy_of_id is None:
                Template.objects.filter(pk=former.pk).update(copy_of=copy)

    def own_of(self, project: Project | None) -> TemplateQuerySet:
        """Made of its VMs, copies included, and nobody else's yet."""
        is_kept = Q(copy_of=None, is_published=False) | Q(copy_of__is_published=False)
        return self.filter(is_kept, project=project)

    def visible_to(self, actor: Actor) -> TemplateQuerySet:
        """Published templates are for everyone, the others for operators and their project."""
        here = self.filter(missing_since=None, cluster__is_enabled=True)
        if actor.is_operator:
            return here
        is_offered = Q(copy_of=None, is_published=True) | Q(copy_of__is_published=True)
        if actor.project is not None:
            is_offered |= Q(project=actor.project)
        return here.filter(is_offered)


class Template(models.Model):
    """A Proxmox template. Name, description and place follow Proxmox; `is_published` is ours.

    One on local storage may have copies on other nodes: templates of their own in Proxmox, here
    the same one in other places.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="templates")
    vmid = models.PositiveIntegerField("VMID", editable=False)
    node = models.CharField(max_length=63, editable=False)
    name = models.CharField(max_length=255, editable=False)
    description = models.TextField(blank=True, editable=False)
    os_type = models.CharField("OS type", max_length=10, default="linux", editable=False)
    tags = ArrayField(models.CharField(max_length=TAG_LENGTH), default=list, editable=False)
    disk_bytes = models.BigIntegerField(default=0, editable=False)
    cores = models.PositiveIntegerField(default=1, editable=False)
    memory_mib = models.PositiveIntegerField("memory (MiB)", default=0, editable=False)
    storages = ArrayField(models.CharField(max_length=100), default=list, editable=False)
    is_on_shared_storage = models.BooleanField(default=False, editable=False)
    has_cloud_init = models.BooleanField(default=False, editable=False)
    is_published = models.BooleanField(
        default=True,
        help_text="Off: only operators, and its project, see it and make VMs from it.",
    )
    project = models.ForeignKey(
        Project,
        null=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="templates",
        help_text="whose VM it was, and who may delete it",
    )
    copy_of = models.ForeignKey(
        "self",
        null=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="copies",
        help_text="the template that this one repeats on another node's local storage",
    )
    # Who it is in Proxmox, as for VMs.
    smbios_uuid = models.UUIDField(null=True, editable=False)
    created_at = models.DateTimeField(null=True, editable=False)
    synced_at = models.DateTimeField(editable=False)
    # From here on the cluster's list counts for it (it lags up to 10 s behind an operation).
    settled_at = models.DateTimeField(null=True, editable=False)
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

    @property
    def original(self) -> Template:
        return self.copy_of or self

    def is_own_of(self, actor: Actor) -> bool:
        """Made of a VM of the actor's project, and nobody else's yet."""
        mine = actor.project is not None and self.project_id == actor.project.pk
        return mine and not self.original.is_published

    @property
    def label(self) -> str:
        """What its tasks are shown with; they begin with the VMID."""
        return f"{self.vmid} {self.name}"

    def family(self, copies: Iterable[Template] | None = None) -> list[Template]:
        """It and its copies that are there, the original first; `copies` if they are known."""
        known = self.copies.all() if copies is None else copies
        copies = [copy for copy in known if copy.missing_since is None]
        return [self, *sorted(copies, key=lambda copy: copy.vmid)]
