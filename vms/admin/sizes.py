"""Sizes: what VMs come in."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from events.admin_site import AuditedAdmin
from vms.models import Size


@admin.register(Size)
class SizeAdmin(AuditedAdmin):
    """Edited and removed freely: a VM keeps the numbers that it was made with."""

    event_noun = "size"
    list_display = ["name", "cores", "memory", "disk", "description", "used_by"]
    search_fields = ["name", "description"]
    fields = ["name", "cores", "memory_mib", "disk_gib", "description", "used_by"]
    readonly_fields = ["used_by"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Size]:
        living = Count("vms", filter=Q(vms__deleted_at=None))
        sizes: QuerySet[Size] = super().get_queryset(request)
        return sizes.annotate(living=living)

    @admin.display(description="memory", ordering="memory_mib")
    def memory(self, size: Size) -> str:
        return shown_memory(size.memory_mib)

    @admin.display(description="disk", ordering="disk_gib")
    def disk(self, size: Size) -> str:
        return f"{size.disk_gib} GiB"

    @admin.display(description="VMs", ordering="living")
    def used_by(self, size: Any) -> SafeString | str:
        living = getattr(size, "living", 0)
        if not living:
            return "none"
        url = reverse("admin:vms_virtualmachine_changelist")
        return format_html('<a class="iz-link" href="{}?size={}">{}</a>', url, size.name, living)


def shown_memory(mib: int) -> str:
    return f"{mib / 1024:g} GiB" if mib >= 1024 and mib % 512 == 0 else f"{mib} MiB"
