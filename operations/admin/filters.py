"""By what tasks are found."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter

from accounts.admin_filters import SinceFilter as AnySince
from operations.models import ENDED, UNFINISHED, Operation, title_of
from operations.plans import all_plans


class StateFilter(DropdownFilter):  # type: ignore[misc]
    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("unfinished", "unfinished"), *((state, state) for state in (*UNFINISHED, *ENDED))]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Operation]
    ) -> QuerySet[Operation] | None:
        wanted = self.value()
        if not wanted:
            return None
        return queryset.filter(state__in=UNFINISHED if wanted == "unfinished" else (wanted,))


class KindFilter(DropdownFilter):  # type: ignore[misc]
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(plan.kind, title_of(plan.kind)) for plan in all_plans()]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[Operation]
    ) -> QuerySet[Operation] | None:
        return queryset.filter(kind=self.value()) if self.value() else None


class SinceFilter(AnySince):
    field = "created_at"
