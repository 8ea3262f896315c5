"""VMs, whose state follows Proxmox, and sizes, which operators make."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST
from unfold.decorators import display

from accounts.people import actor_of_user
from events.admin_site import AuditedAdmin
from events.models import record_event
from operations.admin import operator
from operations.refusals import Refusal
from vms import console
from vms import models as m
from vms.changing import OWN_EVENTS
from vms.models import Size, VirtualMachine

STATUS_COLOURS = {
    m.RUNNING: "success",
    m.STOPPED: "info",
    m.PAUSED: "warning",
    m.SUSPENDED: "warning",
    m.UNKNOWN: "danger",
    m.ERROR: "danger",
}


@admin.register(Size)
class SizeAdmin(AuditedAdmin):
    event_noun = "size"
    list_display = ["name", "cores", "memory_mib", "disk_gib", "description", "used_by"]
    search_fields = ["name", "description"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Size]:
        living = Count("vms", filter=Q(vms__deleted_at=None))
        return super().get_queryset(request).annotate(living=living)  # type: ignore[no-any-return]

    @admin.display(description="VMs", ordering="living")
    def used_by(self, size: Any) -> int:
        return int(size.living)


@admin.register(VirtualMachine)
class VirtualMachineAdmin(AuditedAdmin):
    """An operator gives a VM to a project and protects it; all else follows Proxmox."""

    list_display = [
        "vmid",
        "name",
        "shown_status",
        "node",
        "cores",
        "memory_mib",
        "disk",
        "ip_address",
        "project",
        "last_error",
    ]
    list_display_links = ["vmid", "name"]
    list_filter = ["status", "cluster", "node", "project"]
    search_fields = ["vmid", "name", "uuid", "ip_address"]
    list_select_related = ["project"]
    show_full_result_count = False
    change_form_outer_before_template = "vms/console_button.html"
    editable = ["project", "is_protected"]
    fieldsets = [
        (None, {"fields": ["name", "vmid", "shown_status", "last_error", "missing_since"]}),
        ("For operators", {"fields": editable}),
        ("Where", {"fields": ["cluster", "node", "network", "mac_address", "ip_address"]}),
        ("Hardware", {"fields": ["size", "cores", "memory_mib", "disk", "os_type"]}),
        ("Origin", {"fields": ["template_name", "is_ours", "tags", "description", "cloud_init"]}),
        (
            "Inside",
            {
                "classes": ["collapse"],
                "fields": [
                    "uuid",
                    "smbios_uuid",
                    "power",
                    "doing",
                    "task",
                    "created_at",
                    "synced_at",
                    "details_at",
                ],
            },
        ),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[VirtualMachine]:
        return super().get_queryset(request).filter(deleted_at=None)  # type: ignore[no-any-return]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        shown = [name for _, part in self.fieldsets for name in part["fields"]]
        return [name for name in shown if name not in self.editable]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        # Only these: the rest of the row may have moved on since the page was opened.
        obj.save(update_fields=[*self.editable, "updated_at"])

    def record_change(self, request: HttpRequest, form: Any, related: list[str]) -> None:
        """In the words of `PATCH /vms/{id}`."""
        vm = form.instance
        for name in form.changed_data:
            was, now = self.told(form, name)
            record_event(
                OWN_EVENTS[name],
                by=actor_of_user(request.user),
                project_id=vm.project_id,
                subject=vm.uuid,
                label=str(vm),
                was=str(was),
                now=str(now),
            )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.open_console))
        name = "vms_virtualmachine_console"
        return [path("<int:pk>/console/", view, name=name), *super().get_urls()]

    def open_console(self, request: HttpRequest, pk: int) -> HttpResponse:
        """To the page of a console that only this answer can open, or back with the reason."""
        if not request.user.is_superuser:
            raise PermissionDenied
        vm = get_object_or_404(self.get_queryset(request), pk=pk)
        try:
            link = console.mint_link(vm=vm, by=operator(request))
        except Refusal as refusal:
            messages.error(request, refusal.detail)
            return redirect("admin:vms_virtualmachine_change", pk)
        return redirect(console.page_address(link))

    @display(description="status", label=STATUS_COLOURS)  # type: ignore[untyped-decorator]
    def shown_status(self, vm: VirtualMachine) -> str:
        return str(vm.status)

    @admin.display(description="disk (GiB)", ordering="disk_bytes")
    def disk(self, vm: VirtualMachine) -> float:
        return vm.disk_gib

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
