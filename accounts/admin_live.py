"""Pages that stay true while something is going on: the parts of a page that change are drawn on
the server, and drawn again for `izvor/admin.js`, which asks for them every few seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.cache import never_cache
from unfold.admin import ModelAdmin

Parts = dict[str, SafeString]


class LiveMixin(ModelAdmin):  # type: ignore[misc]
    """A row's page whose template has `data-part="name"` for each of its `parts`."""

    def parts(self, request: HttpRequest, row: Any) -> Parts:
        """HTML by name. No CSRF token in it: it would differ each time (see verbs_form.html)."""
        raise NotImplementedError

    def again_in_s(self, row: Any) -> int | None:
        """When to look again; None: this page has said its last."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(never_cache(self.live))
        name = f"{self.opts.app_label}_{self.opts.model_name}_live"
        return [path("<int:pk>/live/", view, name=name), *super().get_urls()]

    def live(self, request: HttpRequest, pk: int) -> HttpResponse:
        row = self.get_object(request, str(pk))
        if row is None:
            raise Http404
        if not self.has_view_permission(request, row):
            raise PermissionDenied
        return JsonResponse(live_body(self.parts(request, row), self.again_in_s(row)))

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            context |= {"parts": self.parts(request, row), "again_in_s": self.again_in_s(row)}
        answer: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return answer


class LiveListMixin(ModelAdmin):  # type: ignore[misc]
    """A list whose cells are drawn again while something on the page is going on.

    Columns made by `live_cell` stay true; `cells` draws them.
    """

    def cells(self, request: HttpRequest, row: Any) -> Parts:
        """HTML by the name of its column."""
        raise NotImplementedError

    def again_in_s(self, row: Any) -> int | None:
        """As for a row's own page."""
        raise NotImplementedError

    def live_cell(self, row: Any, name: str, html: SafeString) -> SafeString:
        return format_html('<span data-part="{}-{}">{}</span>', name, row.pk, html)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(never_cache(self.live_list))
        name = f"{self.opts.app_label}_{self.opts.model_name}_live_list"
        return [path("live/", view, name=name), *super().get_urls()]

    def live_list(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        wanted = [pk for pk in request.GET.get("rows", "").split(",") if pk.isdecimal()]
        numbers = [pk for pk in wanted if len(pk) < 19][: self.list_per_page]
        rows = self.complete(
            list(self.shown_rows(self.get_queryset(request).filter(pk__in=numbers)))
        )
        parts = {
            f"{name}-{row.pk}": html
            for row in rows
            for name, html in self.cells(request, row).items()
        }
        return JsonResponse(live_body(parts, self.list_again_in_s(rows)))

    def shown_rows(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        """With what `cells` wants, as the list itself has it."""
        return rows.select_related(*(self.list_select_related or ()))

    def complete(self, rows: list[Any]) -> list[Any]:
        """With what is read for the rows of one page together."""
        return rows

    def list_again_in_s(self, rows: Iterable[Any]) -> int | None:
        return min((seconds for row in rows if (seconds := self.again_in_s(row))), default=None)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        answer: HttpResponse = super().changelist_view(request, extra_context)
        changes = (getattr(answer, "context_data", None) or {}).get("cl")
        if changes is not None:
            rows = self.complete(list(changes.result_list))
            changes.result_list = rows
            answer.context_data |= {  # type: ignore[attr-defined]
                "live_rows": ",".join(str(row.pk) for row in rows),
                "again_in_s": self.list_again_in_s(rows),
            }
        return answer


def live_body(parts: Parts, again_in_s: int | None) -> dict[str, Any]:
    return {"parts": parts, "again_in_s": again_in_s}
