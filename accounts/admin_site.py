"""What the admin pages of all apps share: who comes in, how state looks, and rows that are looked
at, not edited."""

from __future__ import annotations

import datetime
import json
import re
from functools import cached_property
from typing import Any

from django.core.paginator import Paginator
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.sites import UnfoldAdminSite

from accounts.people import actor_of_user, is_let_in

# How a state looks; the style sheet has a colour for each.
GOOD, BUSY, CALM, WARN, BAD = "good", "busy", "calm", "warn", "bad"


class IzvorAdminSite(UnfoldAdminSite):  # type: ignore[misc]
    """The admin, for operators and for those who look."""

    def has_permission(self, request: HttpRequest) -> bool:
        return is_let_in(request.user)


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]
    """Rows that Izvor writes. Editing one would only make it untrue."""

    actions: list[str] = []

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class EventsAreHistory(ModelAdmin):  # type: ignore[misc]
    """A row's history is what the audit has about it, whoever did it and by whatever way."""

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        if row is None:
            raise Http404
        return redirect(f"{reverse('admin:events_event_changelist')}?q={row.uuid}")


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than `most`: what grows for ever is found by filters, not by page 9,000."""

    most = 10_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[: self.most].count())


def may_act(request: HttpRequest) -> bool:
    """Whether this person is shown buttons, and may press them."""
    return actor_of_user(request.user).is_operator


def pretty(value: Any) -> SafeString:
    """JSON one can read."""
    return as_written(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True))


def as_written(text: str) -> SafeString:
    """With its line breaks, to be read and copied."""
    return format_html('<pre class="iz-pre">{}</pre>', text)


def badge(text: str, tone: str, *, href: str = "", title: str = "") -> SafeString:
    """A word in a coloured box, a link where there is more to see."""
    if href:
        return format_html(
            '<a class="iz-badge iz-{}" href="{}" title="{}">{}</a>', tone, href, title, text
        )
    return format_html('<span class="iz-badge iz-{}" title="{}">{}</span>', tone, title, text)


def as_code(text: str) -> SafeString:
    """`like this` as code."""
    parts = re.split(r"`([^`]*)`", text)
    return format_html_join(
        "",
        "{}",
        (
            (format_html("<code>{}</code>", part) if number % 2 else part,)
            for number, part in enumerate(parts)
        ),
    )


def bar(used: float, total: float, words: str) -> SafeString:
    """How full, drawn and in words."""
    percent = round(100 * used / total) if total else 0
    tone = BAD if percent > 90 else WARN if percent > 75 else GOOD
    drawn = '<progress class="iz-progress iz-{}" max="100" value="{}"></progress>'
    return format_html('<span class="iz-nowrap">' + drawn + " {}</span>", tone, percent, words)


def space_bar(used: int, total: int) -> SafeString:
    return bar(used, total, f"{gib(used)} of {gib(total)}") if total else SafeString("")


def gib(count: int | None) -> str:
    return f"{(count or 0) / 1024**3:.1f} GiB"


def ago(moment: datetime.datetime | None) -> str:
    """How long ago, short: 12 s, 5 min, 3 h, 2 d."""
    return "" if moment is None else lasted(timezone.now() - moment)


def lasted(time: datetime.timedelta) -> str:
    seconds = max(0, int(time.total_seconds()))
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (size == 60 and seconds >= 60):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def moment(at: datetime.datetime | None) -> SafeString:
    """How long ago, with the exact time behind it."""
    if at is None:
        return SafeString("")
    exact = timezone.localtime(at).strftime("%Y-%m-%d %H:%M:%S %Z")
    shown = '<time datetime="{}" title="{}">{} ago</time>'
    return format_html(shown, at.isoformat(), exact, ago(at))
