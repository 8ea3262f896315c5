"""By what VMs are found. Choices come from small tables, or are few; no filter joins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import F, Func, Q, QuerySet, TextField
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from accounts.models import Project
from clusters.models import Cluster, Node
from templates_app.models import Template
from vms.attention import conditions
from vms.models import STATUSES, Size, VirtualMachine

Vms = QuerySet[VirtualMachine]
CHOICES_MAX = 200
NOBODY = "-"


class VmFilter(DropdownFilter):  # type: ignore[misc]
    """Narrows the list by one value."""

    def words(self) -> Iterable[str]:
        """The choices; what is sent is what is shown."""
        raise NotImplementedError

    def condition(self, value: str) -> Q:
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(word, word) for word in self.words()]

    def queryset(self, request: HttpRequest, queryset: Vms) -> Vms | None:
        return queryset.filter(self.condition(self.value())) if self.value() else None


class StatusFilter(VmFilter):
    title = "status"
    parameter_name = "status"

    def words(self) -> Iterable[str]:
        return STATUSES

    def condition(self, value: str) -> Q:
        return Q(status=value)


class AttentionFilter(VmFilter):
    title = "what is wrong"
    parameter_name = "attention"

    def words(self) -> Iterable[str]:
        return conditions()

    def condition(self, value: str) -> Q:
        return conditions().get(value, Q(pk=None))


class ClusterFilter(VmFilter):
    title = "cluster"
    parameter_name = "cluster"

    def words(self) -> Iterable[str]:
        return Cluster.objects.values_list("name", flat=True)

    def condition(self, value: str) -> Q:
        return Q(cluster__in=Cluster.objects.filter(name=value).values("pk"))


class NodeFilter(VmFilter):
    title = "node"
    parameter_name = "node"

    def words(self) -> Iterable[str]:
        return Node.objects.order_by("name").values_list("name", flat=True).distinct()

    def condition(self, value: str) -> Q:
        return Q(node=value)


class ProjectFilter(VmFilter):
    title = "project"
    parameter_name = "project"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        names = Project.objects.values_list("name", flat=True)
        return [(NOBODY, "nobody's"), *((name, name) for name in names)]

    def condition(self, value: str) -> Q:
        if value == NOBODY:
            return Q(project=None)
        return Q(project__in=Project.objects.filter(name=value).values("pk"))


class TemplateFilter(VmFilter):
    title = "template"
    parameter_name = "template"

    def words(self) -> Iterable[str]:
        names = Template.objects.order_by("name").values_list("name", flat=True).distinct()
        return names[:CHOICES_MAX]

    def condition(self, value: str) -> Q:
        return Q(template_name=value)


class SizeFilter(VmFilter):
    title = "size"
    parameter_name = "size"

    def words(self) -> Iterable[str]:
        return Size.objects.values_list("name", flat=True)

    def condition(self, value: str) -> Q:
        return Q(size__in=Size.objects.filter(name=value).values("pk"))


class TagFilter(VmFilter):
    title = "tag"
    parameter_name = "tag"

    def words(self) -> Iterable[str]:
        each = Func(F("tags"), function="unnest", output_field=TextField())
        living = VirtualMachine.objects.filter(deleted_at=None)
        tags = living.annotate(tag=each).order_by("tag").values_list("tag", flat=True).distinct()
        return tags[:CHOICES_MAX]

    def condition(self, value: str) -> Q:
        return Q(tags__contains=[value])
