"""Tasks: what is running, what waits and for what, what failed and why. And lanes, to edit."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import action, display

from accounts.actors import OPERATOR, Actor
from accounts.admin_site import ReadOnlyAdmin, pretty
from events.admin_site import AuditedAdmin
from operations.enqueue import request_cancel
from operations.models import (
    CANCELED,
    FAILED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    Claim,
    Lane,
    Operation,
)
from operations.refusals import Refusal
from operations.rest import steps_body

STATE_COLOURS = {
    QUEUED: "info",
    RUNNING: "primary",
    SUCCEEDED: "success",
    FAILED: "danger",
    CANCELED: "warning",
}
MARKS = {"done": "✓", "running": "…", "failed": "✗", "waiting": "·"}


@admin.register(Operation)
class OperationAdmin(ReadOnlyAdmin):
    list_display = [
        "kind",
        "subject_label",
        "shown_state",
        "step",
        "shown_progress",
        "waiting_for",
        "error",
        "by",
        "created_at",
    ]
    list_filter = ["state", "kind", "cluster"]
    search_fields = ["uuid", "subject_label", "by", "upid", "error"]
    show_full_result_count = False
    actions_detail = ["cancel"]
    fieldsets = [
        (
            None,
            {
                "fields": [
                    "kind",
                    "subject_label",
                    "shown_state",
                    "shown_progress",
                    "waiting_for",
                    "error",
                    "error_code",
                    "warnings",
                    "timeline",
                ]
            },
        ),
        ("Asked for", {"fields": ["by", "project", "cluster", "shown_params", "created_at"]}),
        (
            "Inside",
            {
                "classes": ["collapse"],
                "fields": [
                    "uuid",
                    "subject",
                    "upid",
                    "attempts",
                    "due_at",
                    "lease_until",
                    "started_at",
                    "ended_at",
                    "cancel_requested_at",
                    "shown_notes",
                ],
            },
        ),
    ]

    @display(description="state", label=STATE_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, operation: Operation) -> str:
        return operation.state

    @admin.display(description="progress")
    def shown_progress(self, operation: Operation) -> str:
        return f"{operation.progress} %"

    @admin.display(description="steps")
    def timeline(self, operation: Operation) -> str:
        rows = format_html_join(
            "",
            '<tr><td class="pr-3">{}</td><td class="pr-6">{}</td>'
            '<td class="pr-6 text-right">{}</td><td>{}</td></tr>',
            (
                (
                    MARKS[step["status"]],
                    step["name"],
                    taken(step),
                    ", ".join(step["upids"]),
                )
                for step in steps_body(operation)
            ),
        )
        return format_html("<table>{}</table>", rows)

    @admin.display(description="parameters")
    def shown_params(self, operation: Operation) -> str:
        return pretty(operation.params)

    @admin.display(description="notes")
    def shown_notes(self, operation: Operation) -> str:
        return pretty(operation.notes)

    @action(description="Cancel", permissions=["cancel"])  # type: ignore[untyped-decorator]
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        operation = Operation.objects.get(pk=object_id)
        try:
            request_cancel(operation, by=operator(request))
            messages.success(request, f"{operation} is being canceled.")
        except Refusal as refusal:
            messages.error(request, refusal.detail)
        return redirect(reverse("admin:operations_operation_change", args=[object_id]))

    def has_cancel_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return bool(request.user.is_superuser)


def operator(request: HttpRequest) -> Actor:
    """A person in the admin, as the audit names them."""
    return Actor(name=f"admin:{request.user.get_username()}", role=OPERATOR)


def taken(step: dict[str, Any]) -> str:
    if not (step["started_at"] and step["ended_at"]):
        return ""
    return f"{(step['ended_at'] - step['started_at']).total_seconds():.1f} s"


@admin.register(Claim)
class ClaimAdmin(ReadOnlyAdmin):
    list_display = ["object", "mode", "operation"]
    search_fields = ["object"]
    list_select_related = ["operation"]


@admin.register(Lane)
class LaneAdmin(AuditedAdmin):
    """The limit is an operator's; lanes themselves appear when somebody queues in them."""

    event_noun = "lane"

    list_display = ["key", "cluster", "limit", "through", "waiting"]
    list_editable = ["limit"]
    list_filter = ["cluster"]
    readonly_fields = ["cluster", "key"]

    @admin.display(description="running")
    def through(self, lane: Lane) -> int:
        return lane.tickets.filter(is_through=True).count()

    @admin.display(description="waiting")
    def waiting(self, lane: Lane) -> int:
        return lane.tickets.filter(is_through=False).count()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
