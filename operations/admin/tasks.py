"""The pages of tasks."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts.actors import Actor
from accounts.admin_live import LiveListMixin, LiveMixin, Parts
from accounts.admin_site import (
    CappedPaginator,
    EventsAreHistory,
    ReadOnlyAdmin,
    as_code,
    moment,
    pretty,
)
from accounts.admin_verbs import Verb, VerbsMixin
from accounts.rest import as_uuid
from operations import retrying
from operations.admin import shown
from operations.admin.filters import KindFilter, SinceFilter, StateFilter
from operations.admin.logs import log_of
from operations.advice import advice_for
from operations.enqueue import request_cancel
from operations.models import Operation, title_of
from operations.refusals import Refusal
from proxmox import ProxmoxError


def cancel(operation: Operation, told: dict[str, Any], by: Actor) -> str:
    request_cancel(operation, by=by)
    return "is being canceled."


def retry(operation: Operation, told: dict[str, Any], by: Actor) -> SafeString:
    return shown.task_link(retrying.retry(operation, by=by))


VERBS = (
    Verb("cancel", "Cancel", "block", cancel, fits=shown.can_cancel, is_dangerous=True),
    Verb("retry", "Retry", "replay", retry, fits=shown.can_retry),
)


@admin.register(Operation)
class OperationAdmin(EventsAreHistory, LiveMixin, LiveListMixin, VerbsMixin, ReadOnlyAdmin):
    verbs = VERBS
    refusals = (Refusal, ProxmoxError)
    list_display = [
        "shown_state",
        "row_menu",
        "shown_kind",
        "shown_subject",
        "shown_step",
        "age",
        "shown_took",
        "why",
        "by",
    ]
    list_display_links = ["shown_kind"]
    list_filter = [StateFilter, KindFilter, SinceFilter, "cluster"]
    list_filter_submit = True
    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    search_fields = ["subject_label", "by", "error"]
    search_help_text = "VM, person, error, task id or UPID"
    show_full_result_count = False
    paginator = CappedPaginator
    change_form_template = "admin/izvor/task.html"
    fieldsets = [
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

    # --- The list ---

    def get_queryset(self, request: HttpRequest) -> QuerySet[Operation]:
        return shown.with_retries(super().get_queryset(request))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        changes = super().get_changelist_instance(request)
        changes.result_list = self.shown_rows(changes.result_list)
        return changes

    def shown_rows(self, rows: QuerySet[Operation]) -> QuerySet[Operation]:
        return rows.defer(*shown.UNSHOWN)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Operation], search_term: str
    ) -> tuple[QuerySet[Operation], bool]:
        """A task's id or one of its UPIDs finds that task; other words as usual."""
        wanted = search_term.strip()
        if wanted.startswith("UPID:"):
            return queryset.filter(steps__contains=[{"upids": [wanted]}]), False
        if which := as_uuid(wanted):
            return queryset.filter(uuid=which), False
        found: tuple[QuerySet[Operation], bool] = super().get_search_results(
            request, queryset, search_term
        )
        return found

    def cells(self, request: HttpRequest, row: Operation) -> Parts:
        return {
            "state": shown.state_badge(row),
            "step": shown.step_now(row),
            "why": shown.why(row),
            "took": format_html("{}", shown.took(row)),
        }

    @admin.display(description="state", ordering="state")
    def shown_state(self, operation: Operation) -> SafeString:
        return self.live_cell(operation, "state", shown.state_badge(operation))

    @admin.display(description="task", ordering="kind")
    def shown_kind(self, operation: Operation) -> str:
        return title_of(operation.kind)

    @admin.display(description="of", ordering="subject_label")
    def shown_subject(self, operation: Operation) -> SafeString:
        return shown.subject_link(operation)

    @admin.display(description="step")
    def shown_step(self, operation: Operation) -> SafeString:
        return self.live_cell(operation, "step", shown.step_now(operation))

    @admin.display(description="waits for, or failed with")
    def why(self, operation: Operation) -> SafeString:
        return self.live_cell(operation, "why", shown.why(operation))

    @admin.display(description="asked", ordering="created_at")
    def age(self, operation: Operation) -> SafeString:
        return moment(operation.created_at)

    @admin.display(description="took")
    def shown_took(self, operation: Operation) -> SafeString:
        return self.live_cell(operation, "took", format_html("{}", shown.took(operation)))

    # --- A task's page ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.log)
        return [path("<int:pk>/log/", view, name="operations_operation_log"), *super().get_urls()]

    def parts(self, request: HttpRequest, row: Operation) -> Parts:
        what_happened, what_to_do = advice_for(row.error_code)
        context = {
            "operation": row,
            "badge": shown.state_badge(row),
            "title": title_of(row.kind),
            "subject": shown.subject_link(row),
            "bar": shown.progress_bar(row),
            "took": shown.took(row),
            "asked": moment(row.created_at),
            "what_happened": as_code(what_happened),
            "what_to_do": as_code(what_to_do),
            "others": others(row),
            "steps": shown.steps_of(row),
        }
        return {
            "buttons": self.buttons(request, row),
            "state": render_to_string("admin/izvor/task_state.html", context),
            "steps": render_to_string("admin/izvor/task_steps.html", context),
        }

    def again_in_s(self, row: Operation) -> int | None:
        return None if row.is_ended else 2

    def log(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Proxmox's own lines, asked for when somebody wants to read them."""
        operation = self.get_object(request, str(pk))
        if operation is None or not self.has_view_permission(request, operation):
            raise Http404
        return render(request, "admin/izvor/task_log.html", {"logs": log_of(operation)})

    @admin.display(description="parameters")
    def shown_params(self, operation: Operation) -> SafeString:
        return pretty(operation.params)

    @admin.display(description="notes")
    def shown_notes(self, operation: Operation) -> SafeString:
        return pretty(operation.notes)


def others(operation: Operation) -> list[tuple[str, SafeString]]:
    """The tasks that this one has to do with, and how."""
    found = [("It was retried:", retry) for retry in operation.retries.order_by("pk")]
    if operation.retry_of:
        found.insert(0, ("It retries", operation.retry_of))
    if operation.after and not operation.is_ended:
        found.insert(0, ("It stands in line behind", operation.after))
    return [(how, shown.words_and_link(other)) for how, other in found]
