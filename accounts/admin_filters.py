"""Filters that several lists have."""

from __future__ import annotations

import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import DropdownFilter

SPANS = {"1": "the last hour", "24": "the last day", "168": "the last week", "720": "30 days"}


class SinceFilter(DropdownFilter):  # type: ignore[misc]
    """Rows of the last hours, by the moment in `field`."""

    title = "since"
    parameter_name = "hours"
    field = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(SPANS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any] | None:
        if self.value() not in SPANS:
            return None
        since = timezone.now() - datetime.timedelta(hours=int(self.value()))
        return queryset.filter(**{f"{self.field}__gte": since})
