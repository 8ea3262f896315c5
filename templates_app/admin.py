"""Templates: everything follows Proxmox but whether customers see one."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from accounts.admin_site import gib
from events.admin_site import AuditedAdmin
from templates_app.models import Template


@admin.register(Template)
class TemplateAdmin(AuditedAdmin):
    event_noun = "template"
    list_display = [
        "name",
        "vmid",
        "cluster",
        "node",
        "os_type",
        "disk",
        "has_cloud_init",
        "copy_of",
        "is_published",
        "missing_since",
    ]
    list_editable = ["is_published"]
    list_filter = ["cluster", "is_published", "os_type"]
    search_fields = ["name", "vmid"]
    list_select_related = ["cluster", "copy_of"]
    readonly_fields = [
        "cluster",
        "vmid",
        "node",
        "name",
        "description",
        "os_type",
        "disk",
        "cores",
        "memory_mib",
        "storages",
        "is_on_shared_storage",
        "has_cloud_init",
        "copy_of",
        "created_at",
        "synced_at",
        "missing_since",
    ]
    fields = ["is_published", *readonly_fields]

    @admin.display(description="disk")
    def disk(self, template: Template) -> str:
        return gib(template.disk_bytes)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
