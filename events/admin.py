"""The audit; webhooks, and what was delivered to them."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from rest_framework.exceptions import ValidationError as Invalid
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import DropdownFilter, RelatedDropdownFilter, TextFilter
from unfold.decorators import display

from accounts.admin_filters import SinceFilter
from accounts.admin_site import CappedPaginator, ReadOnlyAdmin, moment, pretty
from accounts.people import actor_of_user
from accounts.rest import as_uuid
from events import deliveries, webhooks
from events.addresses import Unusable, parse_url
from events.kinds import KINDS
from events.models import FAILED, PENDING, SUCCEEDED, Delivery, Event, Webhook
from events.wanted import types_of

STATE_COLOURS = {PENDING: "info", SUCCEEDED: "success", FAILED: "danger"}


class KindFilter(DropdownFilter):  # type: ignore[misc]
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(kind, kind) for kind in KINDS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event] | None:
        return queryset.filter(kind=self.value()) if self.value() else None


class ActorFilter(TextFilter):  # type: ignore[misc]
    title = "actor"
    parameter_name = "actor"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Event]) -> QuerySet[Event] | None:
        return queryset.filter(actor__icontains=self.value()) if self.value() else None


class EventsSince(SinceFilter):
    field = "at"


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ["shown_at", "kind", "shown_subject", "actor", "project", "shown_task"]
    list_display_links = ["kind"]
    list_filter = [KindFilter, ("project", RelatedDropdownFilter), ActorFilter, EventsSince]
    list_filter_submit = True
    list_per_page = 50
    search_fields = ["subject_label", "actor"]
    list_select_related = ["project"]
    show_full_result_count = False
    paginator = CappedPaginator
    fields = [
        "seq",
        "at",
        "kind",
        "actor",
        "project",
        "subject_label",
        "subject",
        "task",
        "details",
    ]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Event], search_term: str
    ) -> tuple[QuerySet[Event], bool]:
        """A uuid finds what happened to that VM, task …; other words as usual."""
        if which := as_uuid(search_term.strip()):
            return queryset.filter(Q(subject=which) | Q(task=which)), False
        found: tuple[QuerySet[Event], bool] = super().get_search_results(
            request, queryset, search_term
        )
        return found

    @admin.display(description="when", ordering="at")
    def shown_at(self, event: Event) -> SafeString:
        return moment(event.at)

    @admin.display(description="of", ordering="subject_label")
    def shown_subject(self, event: Event) -> SafeString | str:
        if event.subject is None or event.kind.partition(".")[0] not in {"vm", "task", "template"}:
            return event.subject_label
        url = reverse("admin:vms_virtualmachine_by_uuid", args=[event.subject])
        return format_html('<a class="iz-link" href="{}">{}</a>', url, event.subject_label)

    @admin.display(description="task")
    def shown_task(self, event: Event) -> SafeString | str:
        if event.task is None:
            return ""
        url = reverse("admin:operations_operation_changelist")
        return format_html('<a class="iz-link" href="{}?q={}">task</a>', url, event.task)

    @admin.display(description="data")
    def details(self, event: Event) -> str:
        return pretty(event.data)


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Webhook
        fields = ["url", "project", "types", "description", "is_enabled"]

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"]
        try:
            parse_url(url)
        except Unusable as error:
            raise ValidationError(str(error)) from None
        return url

    def clean_types(self) -> list[str]:
        try:
            return list(types_of(self.cleaned_data["types"] or []))
        except Invalid as error:
            raise ValidationError([str(line) for line in error.detail]) from None


@admin.register(Webhook)
class WebhookAdmin(ModelAdmin):  # type: ignore[misc]
    """Saved by the same verbs as the API's, which write the events."""

    form = WebhookForm
    list_display = ["host", "project", "types", "is_enabled", "failing_since", "created_at"]
    list_filter = ["is_enabled", "project"]
    search_fields = ["url", "description"]
    list_select_related = ["project"]
    fields = ["url", "project", "types", "description", "is_enabled", "failing_since"]
    actions = ["ping"]

    @admin.display(description="host", ordering="url")
    def host(self, webhook: Webhook) -> str:
        return str(webhook)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # Whose events it hears is settled when it is made.
        return ["project", "failing_since"] if obj else ["failing_since"]

    def save_model(self, request: HttpRequest, obj: Webhook, form: Any, change: bool) -> None:
        actor = actor_of_user(request.user)
        asked = form.cleaned_data
        if change:
            named = {name: asked[name] for name in form.changed_data}
            if named:
                webhooks.change_webhook(obj, **named, by=actor)
            return
        made, secret = webhooks.create_webhook(
            url=asked["url"],
            project=asked["project"],
            types=asked["types"],
            description=asked["description"],
            is_enabled=asked["is_enabled"],
            by=actor,
        )
        obj.pk, obj.uuid = made.pk, made.uuid
        messages.warning(
            request, f"The secret that signs its deliveries, shown this once: {secret}"
        )

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Its deliveries go with it, though nobody may remove one of them alone."""
        shown, counts, _, protected = super().get_deleted_objects(objs, request)
        return shown, counts, set(), protected

    def delete_model(self, request: HttpRequest, obj: Webhook) -> None:
        webhooks.delete_webhook(obj, by=actor_of_user(request.user))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        for webhook in queryset:
            self.delete_model(request, webhook)

    @admin.action(description="Send a test event", permissions=["change"])
    def ping(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        for webhook in queryset.filter(is_enabled=True):
            webhooks.ping_webhook(webhook, by=actor_of_user(request.user))
        messages.success(request, "Test events are on their way to those that are enabled.")


@admin.register(Delivery)
class DeliveryAdmin(ReadOnlyAdmin):
    list_display = [
        "created_at",
        "webhook",
        "kind",
        "shown_state",
        "attempts",
        "response_status",
        "error",
        "next_at",
    ]
    list_filter = ["state", "webhook"]
    search_fields = ["uuid", "event__kind", "error"]
    list_select_related = ["event", "webhook"]
    show_full_result_count = False
    actions = ["redeliver"]
    fields = [
        "uuid",
        "webhook",
        "event",
        "shown_state",
        "attempts",
        "next_at",
        "give_up_at",
        "response_status",
        "response_body",
        "error",
        "duration_ms",
        "created_at",
        "ended_at",
    ]

    @admin.display(description="event")
    def kind(self, delivery: Delivery) -> str:
        return delivery.event.kind

    @display(description="state", label=STATE_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, delivery: Delivery) -> str:
        return delivery.state

    @admin.action(description="Deliver again", permissions=["redeliver"])
    def redeliver(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        actor = actor_of_user(request.user)
        again = [deliveries.redeliver(delivery, by=actor) for delivery in queryset]
        messages.success(request, f"{sum(again)} of {len(again)} are on their way again.")

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        return actor_of_user(request.user).is_operator
