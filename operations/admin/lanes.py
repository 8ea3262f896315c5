"""Lanes, whose limits operators set, and claims, which say who works on what."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest

from accounts.admin_site import ReadOnlyAdmin
from accounts.sql import after_commit
from events.admin_site import AuditedAdmin
from operations.lanes import call_next
from operations.models import Claim, Lane


@admin.register(Claim)
class ClaimAdmin(ReadOnlyAdmin):
    list_display = ["object", "mode", "operation"]
    search_fields = ["object"]
    list_select_related = ["operation"]
    show_full_result_count = False


@admin.register(Lane)
class LaneAdmin(AuditedAdmin):
    """The limit is an operator's; lanes themselves appear when somebody queues in them."""

    event_noun = "lane"

    list_display = ["key", "cluster", "limit", "through", "waiting"]
    list_editable = ["limit"]
    list_filter = ["cluster"]
    list_select_related = ["cluster"]
    search_fields = ["key"]
    fields = ["key", "cluster", "limit", "through", "waiting"]
    readonly_fields = ["cluster", "key", "through", "waiting"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Lane]:
        lanes: QuerySet[Lane] = super().get_queryset(request)
        return lanes.annotate(
            is_through=Count("tickets", filter=Q(tickets__is_through=True)),
            is_waiting=Count("tickets", filter=Q(tickets__is_through=False)),
        )

    def save_model(self, request: HttpRequest, obj: Lane, form: Any, change: bool) -> None:
        """With a higher limit those who may now pass are called at once."""
        super().save_model(request, obj, form, change)
        # In its turn, as by one who leaves.
        after_commit(call_next, obj.cluster_id)

    @admin.display(description="running", ordering="is_through")
    def through(self, lane: Any) -> int:
        return int(lane.is_through)

    @admin.display(description="waiting", ordering="is_waiting")
    def waiting(self, lane: Any) -> int:
        return int(lane.is_waiting)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
