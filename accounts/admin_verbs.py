"""Verbs: what operators do to rows, as buttons on each row and page, and on many rows at once.

Everything is a POST with CSRF to `do/<verb>/`. A verb that must be told more (a node) or that asks
back first answers that POST with a page, and does nothing until the page's own form comes in whole.
Who may only look is shown no button, and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html, format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from accounts.actors import Actor
from accounts.admin_site import may_act
from accounts.people import actor_of_user

# Each row may ask Proxmox something: more than a page of them would keep a person waiting.
ROWS_MAX = 100
CONFIRMED = "confirmed"


class VerbForm(forms.Form):
    """What a verb must be told; it knows the rows that it is about."""

    def __init__(self, *args: Any, rows: Sequence[Any], **kwargs: Any) -> None:
        self.rows = rows
        super().__init__(*args, **kwargs)


@dataclass(frozen=True)
class Verb:
    """`run(row, told, by)` does it and says what came of it; it raises its admin's `refusals`."""

    name: str
    label: str
    icon: str
    run: Callable[[Any, dict[str, Any], Actor], SafeString | str]
    # Whether a button makes sense on this row; the verb itself checks again.
    fits: Callable[[Any], bool] = lambda row: True
    form: type[VerbForm] | None = None
    # Asked on a page of its own before anything happens.
    question: str = ""
    is_dangerous: bool = False
    # Offered for many rows at once.
    is_for_many: bool = True

    @property
    def has_page(self) -> bool:
        return self.form is not None or bool(self.question)


class VerbsMixin(ModelAdmin):  # type: ignore[misc]
    """A model's pages with `verbs`. Needs `list_after_template` to hold the buttons' form."""

    verbs: Sequence[Verb] = ()
    # What `run` may raise: shown with its row, in its own words.
    refusals: tuple[type[Exception], ...] = ()
    list_after_template = "admin/izvor/verbs_form.html"
    list_disable_select_all = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._verb_urls: dict[str, str] = {}

    # --- Where they are ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.do)
        return [path("do/<slug:name>/", view, name=self._url_name("do")), *super().get_urls()]

    def _url_name(self, page: str) -> str:
        return f"{self.opts.app_label}_{self.opts.model_name}_{page}"

    def url_of(self, page: str, *args: Any) -> str:
        return reverse(f"admin:{self._url_name(page)}", args=args)

    # --- How they are offered ---

    def buttons(self, request: HttpRequest, row: Any) -> SafeString:
        """Those of a row's own page."""
        if not may_act(request):
            return SafeString("")
        fitting = [self.button(verb, row) for verb in self.verbs if verb.fits(row)]
        return format_html_join("", "{}", ((one,) for one in [*fitting, *self.more_buttons(row)]))

    def more_buttons(self, row: Any) -> list[SafeString]:
        """Those that are no verbs, since they lead somewhere else, on a row and on its page."""
        return []

    def button(self, verb: Verb, row: Any, **asked: str) -> SafeString:
        """`asked` fills in the form of the verb's page."""
        query = f"?{urlencode(asked)}" if asked else ""
        # A list has hundreds of them: an address is looked up once, not for each.
        url = self._verb_urls.get(verb.name)
        if url is None:
            url = self._verb_urls[verb.name] = self.url_of("do", verb.name)
        return verb_button(
            verb.label,
            f"{url}{query}",
            icon=verb.icon,
            value=row.pk,
            is_dangerous=verb.is_dangerous,
            opens_page=verb.has_page,
        )

    def menu(self, row: Any) -> SafeString:
        """A row's buttons behind one: the browser's own popover, which nothing clips."""
        fitting = [self.button(verb, row) for verb in self.verbs if verb.fits(row)]
        shown = [*fitting, *self.more_buttons(row)]
        if not shown:
            return SafeString("")
        return format_html(
            '<button type="button" class="iz-more" popovertarget="do-{pk}" title="Actions" '
            'aria-label="Actions on {row}">⋯</button>'
            '<div popover id="do-{pk}" class="iz-menu"><p>{row}</p>{shown}</div>',
            pk=row.pk,
            row=str(row),
            shown=format_html_join("", "{}", ((one,) for one in shown)),
        )

    @admin.display(description="")
    def row_menu(self, row: Any) -> SafeString:
        """A column for `list_display`; who may only look does not get it."""
        return self.menu(row)

    def get_list_display(self, request: HttpRequest) -> list[str]:
        columns = list(super().get_list_display(request))
        return columns if may_act(request) else [name for name in columns if name != "row_menu"]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        found: dict[str, Any] = super().get_actions(request)
        if may_act(request):
            for verb in self.verbs:
                if verb.is_for_many:
                    found[verb.name] = (_bulk_action(verb), verb.name, verb.label)
        return found

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None:
            context["verb_buttons"] = self.buttons(request, row)
        answer: HttpResponse = super().render_change_form(request, context, *args, **kwargs)
        return answer

    # --- How they are done ---

    @method_decorator(require_POST)
    def do(self, request: HttpRequest, name: str) -> HttpResponse:
        if not may_act(request):
            raise PermissionDenied
        verb = next((verb for verb in self.verbs if verb.name == name), None)
        if verb is None:
            raise Http404
        chosen = [pk for pk in request.POST.getlist(ACTION_CHECKBOX_NAME) if pk.isdecimal()]
        numbers = [pk for pk in chosen if len(pk) < 19]
        return self.do_verb(request, verb, self.get_queryset(request).filter(pk__in=numbers))

    def do_verb(self, request: HttpRequest, verb: Verb, queryset: QuerySet[Any]) -> HttpResponse:
        """Ask what must be asked, else do it to each row and say what came of each."""
        rows = list(queryset[: ROWS_MAX + 1])
        back = self.way_back(request)
        if not rows or len(rows) > ROWS_MAX:
            said = f"Choose at most {ROWS_MAX}." if rows else "There is no such row any more."
            messages.error(request, said)
            return HttpResponseRedirect(back)
        told: Mapping[str, Any] = {}
        if verb.has_page:
            is_told = CONFIRMED in request.POST
            form_class = verb.form or VerbForm
            form = form_class(
                request.POST if is_told else None, rows=rows, initial=request.GET.dict()
            )
            if not is_told or not form.is_valid():
                return self.ask(request, verb, rows, form, back)
            told = form.cleaned_data
        self.run(request, verb, rows, dict(told))
        return HttpResponseRedirect(back)

    def ask(
        self, request: HttpRequest, verb: Verb, rows: list[Any], form: forms.Form, back: str
    ) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{verb.label}: {rows[0]}" if len(rows) == 1 else verb.label,
            "opts": self.opts,
            "verb": verb,
            "rows": rows,
            "form": form,
            "back": back,
            "action": self.url_of("do", verb.name),
            "confirmed": CONFIRMED,
            "chosen": ACTION_CHECKBOX_NAME,
        }
        return render(request, "admin/izvor/verb.html", context)

    def run(self, request: HttpRequest, verb: Verb, rows: list[Any], told: dict[str, Any]) -> None:
        by = actor_of_user(request.user)
        done: list[SafeString] = []
        refused: list[SafeString] = []
        for row in rows:
            try:
                said = verb.run(row, told, by)
                done.append(about(row, said))
            except self.refusals as refusal:
                refused.append(about(row, said_by(refusal)))
        if done:
            messages.success(request, as_list(done))
        if refused:
            messages.error(request, as_list(refused))

    def way_back(self, request: HttpRequest) -> str:
        """To the page on which the button was, if that is ours."""
        asked = request.POST.get("back") or request.headers.get("Referer", "")
        hosts = {request.get_host()}
        if asked and url_has_allowed_host_and_scheme(
            asked, allowed_hosts=hosts, require_https=request.is_secure()
        ):
            return asked
        return self.url_of("changelist")


def _bulk_action(verb: Verb) -> Callable[[Any, HttpRequest, QuerySet[Any]], HttpResponse]:
    def act(pages: VerbsMixin, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        return pages.do_verb(request, verb, queryset)

    return act


def verb_button(
    label: str,
    url: str,
    *,
    icon: str,
    value: Any = "",
    is_dangerous: bool = False,
    opens_page: bool = False,
    opens_tab: bool = False,
) -> SafeString:
    """A button of the form `verbs` (verbs_form.html), wherever on the page it stands.

    One form a page holds the CSRF token, since a list is a form already and forms do not nest.
    """
    return format_html(
        '<button type="submit" form="verbs" formaction="{}"{} name="{}" value="{}" '
        'class="iz-button{}"><span class="material-symbols-outlined" aria-hidden="true">{}</span>'
        "{}{}</button>",
        url,
        SafeString(' formtarget="_blank"') if opens_tab else "",
        ACTION_CHECKBOX_NAME,
        value,
        " iz-danger" if is_dangerous else "",
        icon,
        label,
        "…" if opens_page else "",
    )


def as_list(lines: list[SafeString]) -> SafeString:
    if len(lines) == 1:
        return lines[0]
    return format_html(
        '<ul class="iz-lines">{}</ul>',
        format_html_join("", "<li>{}</li>", ((line,) for line in lines)),
    )


def about(row: Any, said: str) -> SafeString:
    """What is said of a row; sentences that name it themselves are left alone."""
    if str(row) in said:
        return format_html("{}", said)
    return format_html("<b>{}</b>: {}", row, said)


def said_by(refusal: Exception) -> str:
    return str(getattr(refusal, "detail", "") or refusal)


def link_to(row: Model, text: str = "") -> SafeString:
    """A link to a row's page in the admin."""
    meta = row._meta
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_change", args=[row.pk])
    return format_html('<a class="iz-link" href="{}">{}</a>', url, text or str(row))
