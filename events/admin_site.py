"""Admin pages whose changes are events: written with the change, in its transaction, and naming who
made it."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.forms import ModelChoiceField
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from accounts.people import actor_of_user
from events.models import record_event


class AuditedAdmin(ModelAdmin):  # type: ignore[misc]
    """`size` in `event_noun` makes `size.created`, `size.changed` and `size.deleted`."""

    event_noun = ""
    # Fields that are named when they change, without their values: secrets, and what is too long.
    untold: frozenset[str] = frozenset()

    def event_project(self, row: Any) -> int | None:
        """Whose event it is; None: the operators'."""
        return getattr(row, "project_id", None)

    def record(self, request: HttpRequest, verb: str, row: Any, **data: Any) -> None:
        handle = getattr(row, "uuid", None)
        record_event(
            f"{self.event_noun}.{verb}",
            by=actor_of_user(request.user),
            project_id=self.event_project(row),
            subject=handle if isinstance(handle, uuid.UUID) else None,
            label=str(row),
            **data,
        )

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """The last thing that Django's pages do to save, in the transaction of all of it."""
        super().save_related(request, form, formsets, change)
        if not change:
            self.record(request, "created", form.instance)
            return
        related = [words for formset in formsets for words in changed_rows(formset)]
        if form.changed_data or related:
            self.record_change(request, form, related)

    def record_change(self, request: HttpRequest, form: Any, related: list[str]) -> None:
        """`related`: what was saved below the page's own row, in words."""
        changes = {name: self.told(form, name) for name in form.changed_data}
        more = {"related": related} if related else {}
        self.record(request, "changed", form.instance, changes=changes, **more)

    def told(self, form: Any, name: str) -> Any:
        """A field's value before and after, or "changed" where that is all that may be said."""
        if name in self.untold:
            return "changed"
        before, field = form.initial.get(name), form.fields[name]
        if isinstance(field, ModelChoiceField) and isinstance(before, int):
            rows: QuerySet[Any] = field.queryset  # type: ignore[assignment]
            before = rows.filter(pk=before).first()
        return [plain(before), plain(form.cleaned_data.get(name))]

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            self.record(request, "deleted", obj)
            super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for row in queryset:
                self.record(request, "deleted", row)
            super().delete_queryset(request, queryset)


def changed_rows(formset: Any) -> list[str]:
    return [
        *(f"added {row}" for row in formset.new_objects),
        *(f"changed {row}: {', '.join(names)}" for row, names in formset.changed_objects),
        *(f"deleted {row}" for row in formset.deleted_objects),
    ]


def plain(value: Any) -> Any:
    """As JSON holds it."""
    if isinstance(value, str | int | float | bool | None):
        return value
    if isinstance(value, list | tuple | set | QuerySet):
        return sorted(str(one) for one in value)
    return str(value)
