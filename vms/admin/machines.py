"""The pages of VMs. Nothing of a row is edited: people act on VMs, and the rows follow."""

from __future__ import annotations

import ipaddress
import uuid
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from accounts.admin_live import LiveListMixin, LiveMixin, Parts
from accounts.admin_site import EventsAreHistory, ReadOnlyAdmin, may_act, moment, pretty
from accounts.admin_verbs import VerbsMixin, said_by, verb_button
from accounts.people import actor_of_user
from accounts.rest import as_uuid
from operations.admin import shown as tasks
from operations.models import Operation
from operations.refusals import Refusal
from proxmox import ProxmoxError
from templates_app.models import Template
from vms import charts, console
from vms.admin import filters, shown
from vms.admin.verbs import OF_A_SNAPSHOT, VERBS
from vms.bodies import SEEN_AT
from vms.models import VirtualMachine
from vms.series import TIMEFRAMES, read_points

# A person waits for the charts, in a page.
CHARTS_S = 3.0
TASKS_SHOWN = 10


@admin.register(VirtualMachine)
class VirtualMachineAdmin(EventsAreHistory, LiveMixin, LiveListMixin, VerbsMixin, ReadOnlyAdmin):
    verbs = VERBS
    refusals = (Refusal, ProxmoxError)
    list_display = [
        "vmid",
        "name",
        "shown_status",
        "row_menu",
        "note",
        "place",
        "hardware",
        "ip_address",
        "project",
    ]
    list_display_links = ["vmid", "name"]
    list_filter = [
        filters.StatusFilter,
        filters.AttentionFilter,
        filters.ClusterFilter,
        filters.NodeFilter,
        filters.ProjectFilter,
        filters.TemplateFilter,
        filters.SizeFilter,
        filters.TagFilter,
    ]
    list_filter_submit = True
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    empty_value_display = ""
    list_select_related = ["project", "cluster"]
    ordering = ["vmid", "pk"]
    search_fields = ["name"]
    search_help_text = "VMID, name, uuid or address"
    show_full_result_count = False
    change_form_template = "admin/izvor/vm.html"
    fieldsets = [
        ("Where", {"fields": ["cluster", "node", "network", "mac_address", "project"]}),
        ("Hardware", {"fields": ["size", "cores", "memory_mib", "disk", "os_type"]}),
        (
            "Origin",
            {
                "fields": [
                    "template_name",
                    "os_template",
                    "is_ours",
                    "shown_tags",
                    "description",
                    "shown_metadata",
                    "shown_cloud_init",
                    "created_at",
                ]
            },
        ),
        (
            "Inside",
            {
                "classes": ["collapse"],
                "fields": [
                    "uuid",
                    "smbios_uuid",
                    "power",
                    "lock",
                    "is_ha_managed",
                    "doing",
                    "task",
                    "synced_at",
                    "details_at",
                    "snapshots_at",
                    "deleted_at",
                ],
            },
        ),
    ]

    # --- Which rows ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[VirtualMachine]:
        vms: QuerySet[VirtualMachine] = super().get_queryset(request)
        return vms.filter(deleted_at=None)

    def complete(self, rows: list[Any]) -> list[Any]:
        return shown.with_tasks(rows)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> VirtualMachine | None:
        """Deleted ones too: tasks and events lead to them."""
        if not object_id.isdecimal() or len(object_id) > 18:
            return None
        rows = VirtualMachine.objects.filter(pk=object_id).annotate(seen_at=SEEN_AT)
        found = shown.with_tasks(list(rows.select_related("cluster", "project", "size", "usage")))
        return found[0] if found else None

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[VirtualMachine], search_term: str
    ) -> tuple[QuerySet[VirtualMachine], bool]:
        for word in search_term.split():
            queryset = queryset.filter(found_by(word))
        return queryset, False

    # --- The list ---

    def cells(self, request: HttpRequest, row: VirtualMachine) -> Parts:
        # A menu of buttons is not drawn again: somebody may be about to press one.
        return {"status": shown.status_badge(row), "note": shown.note(row)}

    @admin.display(description="status", ordering="status")
    def shown_status(self, vm: VirtualMachine) -> SafeString:
        return self.live_cell(vm, "status", shown.status_badge(vm))

    @admin.display(description="on", ordering="node")
    def place(self, vm: VirtualMachine) -> SafeString:
        where = '<span class="iz-nowrap">{} <span class="iz-quiet">{}</span></span>'
        return format_html(where, vm.node, vm.cluster.name)

    @admin.display(description="hardware", ordering="memory_mib")
    def hardware(self, vm: VirtualMachine) -> SafeString:
        return shown.hardware(vm)

    @admin.display(description="note")
    def note(self, vm: VirtualMachine) -> SafeString:
        return self.live_cell(vm, "note", shown.note(vm))

    # --- A VM's page ---

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<int:pk>/usage/", wrap(self.usage), name="vms_virtualmachine_usage"),
            path(
                "<int:pk>/console/",
                wrap(require_POST(self.open_console)),
                name="vms_virtualmachine_console",
            ),
            path("uuid/<uuid:which>/", wrap(self.by_uuid), name="vms_virtualmachine_by_uuid"),
            *super().get_urls(),
        ]

    def more_buttons(self, row: VirtualMachine) -> list[SafeString]:
        """The screen, in a tab of its own."""
        if row.deleted_at is not None or not row.shows_console:
            return []
        url = self.url_of("console", row.pk)
        return [verb_button("Console", url, icon="monitor", value=row.pk, opens_tab=True)]

    def open_console(self, request: HttpRequest, pk: int) -> HttpResponse:
        """To the page of a console that only this answer can open, or back with the reason."""
        if not may_act(request):
            raise PermissionDenied
        vm = get_object_or_404(self.get_queryset(request), pk=pk)
        try:
            link = console.mint_link(vm=vm, by=actor_of_user(request.user))
        except self.refusals as refusal:
            messages.error(request, said_by(refusal))
            return redirect("admin:vms_virtualmachine_change", pk)
        return redirect(console.page_address(link))

    def by_uuid(self, request: HttpRequest, which: uuid.UUID) -> HttpResponse:
        """To the page of what a task or an event is about."""
        for model in (VirtualMachine, Template):
            row = model.objects.filter(uuid=which).first()
            if row is not None:
                meta = model._meta
                return redirect(f"admin:{meta.app_label}_{meta.model_name}_change", row.pk)
        messages.warning(request, "What it was about is no longer known here.")
        return redirect("admin:index")

    def parts(self, request: HttpRequest, row: Any) -> Parts:
        acts = may_act(request) and row.deleted_at is None
        snapshots = [
            (
                snapshot,
                moment(snapshot.taken_at),
                [self.button(v, row, snapshot=snapshot.name) for v in OF_A_SNAPSHOT.values()]
                if acts
                else [],
            )
            for snapshot in row.snapshots.all()
        ]
        recent = tasks.with_retries(Operation.objects.filter(subject=row.uuid))
        recent = recent.defer(*tasks.UNSHOWN)
        task = row.shown_task
        context = {
            "vm": row,
            "badge": shown.status_badge(row, is_link=False),
            "task": task,
            "task_words": tasks.words_and_link(task) if task else "",
            "warnings": shown.warnings(row),
            "hardware": shown.hardware(row),
            "usage": shown.usage_now(row),
            "seen": moment(row.seen_at),
            "snapshots": snapshots,
            "snapshots_seen": moment(row.snapshots_at),
            "tasks": [shown.task_row(task) for task in recent.order_by("-pk")[:TASKS_SHOWN]],
        }
        return {
            "buttons": self.buttons(request, row),
            **{
                name: render_to_string(f"admin/izvor/vm_{name}.html", context)
                for name in ("state", "snapshots", "tasks")
            },
        }

    def again_in_s(self, row: VirtualMachine) -> int | None:
        """Soon while a task is at work; now and then else, since others may start one."""
        if row.deleted_at is not None:
            return None
        return 2 if row.doing else 10

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        context["timeframes"] = TIMEFRAMES
        return super().render_change_form(request, context, *args, **kwargs)

    def usage(self, request: HttpRequest, pk: int) -> HttpResponse:
        """The charts, which are Proxmox's to tell: a page of its own, so that nobody waits for a
        cluster that is silent."""
        vm = self.get_object(request, str(pk))
        if vm is None or not self.has_view_permission(request, vm):
            raise Http404
        timeframe = request.GET.get("timeframe", "hour")
        if timeframe not in TIMEFRAMES:
            raise Http404
        context: dict[str, Any] = {"timeframes": TIMEFRAMES, "timeframe": timeframe}
        try:
            points = read_points(vm.cluster, vm.node, vm.vmid, timeframe, timeout_s=CHARTS_S)
            context["charts"] = charts.draw_all(points, timeframe)
        except (ProxmoxError, Refusal) as error:
            context["said"] = f"Proxmox does not tell: {error}"
        return render(request, "admin/izvor/vm_usage.html", context)

    @admin.display(description="disk (GiB)", ordering="disk_bytes")
    def disk(self, vm: VirtualMachine) -> float:
        return vm.disk_gib

    @admin.display(description="tags")
    def shown_tags(self, vm: VirtualMachine) -> str:
        return ", ".join(vm.tags) or "-"

    @admin.display(description="metadata")
    def shown_metadata(self, vm: VirtualMachine) -> SafeString:
        return pretty(vm.metadata)

    @admin.display(description="cloud-init")
    def shown_cloud_init(self, vm: VirtualMachine) -> SafeString:
        return pretty(vm.cloud_init)


def found_by(word: str) -> Q:
    """A VMID, a uuid or an address as a whole; part of a name, or of an address."""
    found = Q(name__icontains=word)
    if word.isdecimal() and len(word) < 10:
        found |= Q(vmid=int(word))
    if which := as_uuid(word):
        found |= Q(uuid=which) | Q(smbios_uuid=which)
    try:
        ip = ipaddress.ip_address(word)
        found |= Q(**{"ip_address" if ip.version == 4 else "ipv6_address": str(ip)})
    except ValueError:
        if set(word) <= set("0123456789.") and "." in word:
            found |= Q(ip_address__startswith=word)
    return found
