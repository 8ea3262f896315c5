"""Templates: followed as Proxmox has them; offered or hidden, copied, made and deleted by people.

Here rather than with their rows, since what changes one is a verb of VMs (`template_actions`).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.actors import Actor
from accounts.admin_site import (
    BAD,
    CALM,
    GOOD,
    WARN,
    EventsAreHistory,
    ReadOnlyAdmin,
    badge,
    gib,
    may_act,
    moment,
)
from accounts.admin_verbs import Verb, VerbForm, VerbsMixin, link_to, said_by
from accounts.people import actor_of_user
from clusters.models import Cluster, Node
from events.models import record_event
from operations.admin.shown import task_link
from operations.refusals import Refusal
from proxmox import ProxmoxError
from templates_app.models import Template
from templates_app.views import is_everywhere, online_nodes
from vms import template_actions
from vms.building import check_name_is_free
from vms.template_serializers import BuildTemplateSerializer, new_template_of


def publish(is_published: bool) -> Callable[[Template, dict[str, Any], Actor], str]:
    @transaction.atomic
    def say(template: Template, told: dict[str, Any], by: Actor) -> str:
        if is_published:
            check_name_is_free(template.cluster, template.name, besides=template)
        rows = Template.objects.filter(pk=template.pk, is_published=not is_published)
        if rows.update(is_published=is_published):
            record_event(
                "template.changed",
                by=by,
                subject=template.uuid,
                label=str(template),
                changes={"is_published": [not is_published, is_published]},
            )
        return "is offered to everybody." if is_published else "is not offered any more."

    return say


class CopyForm(VerbForm):
    """A node that is up and does not have it yet."""

    node = forms.ChoiceField(label="To node", widget=UnfoldAdminSelectWidget())
    storage = forms.CharField(
        required=False,
        max_length=100,
        widget=UnfoldAdminTextInputWidget(),
        help_text="There, for its disks; empty: one of the same name.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        clusters = {template.cluster_id for template in self.rows}
        has_it = {member.node for template in self.rows for member in template.original.family()}
        names = nodes_of(clusters).exclude(name__in=has_it).values_list("name", flat=True)
        field = self.fields["node"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(name, name) for name in names]


def nodes_of(clusters: Any) -> QuerySet[Node]:
    up = Node.objects.filter(status="online", missing_since=None, cluster__in=clusters)
    return up.order_by("name")


def copy(template: Template, told: dict[str, Any], by: Actor) -> SafeString:
    return task_link(
        template_actions.copy_template(
            template=template, node=told["node"], storage=told["storage"], by=by
        )
    )


def delete(template: Template, told: dict[str, Any], by: Actor) -> SafeString:
    return task_link(template_actions.delete_template(template=template, by=by))


def is_there(template: Template) -> bool:
    return template.missing_since is None


def is_original(template: Template) -> bool:
    return template.copy_of_id is None and is_there(template)


VERBS = (
    Verb(
        "publish",
        "Publish",
        "visibility",
        publish(True),
        fits=lambda template: is_original(template) and not template.is_published,
    ),
    Verb(
        "hide",
        "Hide",
        "visibility_off",
        publish(False),
        fits=lambda template: is_original(template) and template.is_published,
    ),
    Verb(
        "copy",
        "Copy to node",
        "content_copy",
        copy,
        form=CopyForm,
        fits=lambda template: is_original(template) and not template.is_on_shared_storage,
        is_for_many=False,
    ),
    Verb(
        "delete",
        "Delete",
        "delete",
        delete,
        fits=is_there,
        question="It is destroyed with its disks. VMs that were cloned from it in full stay.",
        is_dangerous=True,
        is_for_many=False,
    ),
)


class BuildForm(VerbForm):
    """The words of `POST /templates`, checked as the API checks them."""

    name = forms.CharField(max_length=63)
    url = forms.CharField(label="URL", max_length=4096, help_text="of a cloud image")
    checksum = forms.CharField(
        required=False, max_length=140, help_text="e.g. sha256:… ; Proxmox checks it"
    )
    disk_size = forms.CharField(
        label="Disk (GiB)", required=False, max_length=5, help_text="empty: as the image has it"
    )
    os_type = forms.ChoiceField(
        label="System", choices=[(name, name) for name in ("linux", "windows", "other")]
    )
    cluster = forms.ChoiceField(required=False)
    node = forms.ChoiceField(required=False)
    storage = forms.CharField(required=False, max_length=100, help_text="for its disk")
    image_storage = forms.CharField(
        required=False, max_length=100, help_text="where the file is kept until its disk is made"
    )
    user = forms.CharField(
        required=False, max_length=32, help_text="cloud-init's, for VMs that name none"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        clusters = Cluster.objects.filter(is_enabled=True)
        names = sorted(set(nodes_of(clusters).values_list("name", flat=True)))
        choices = {"cluster": clusters.values_list("name", flat=True), "node": names}
        for name, field in self.fields.items():
            if isinstance(field, forms.ChoiceField):
                field.widget = UnfoldAdminSelectWidget()
                given = [("", "any"), *((one, one) for one in choices.get(name, ()))]
                # Set again, since it is the field that tells its widget.
                field.choices = given if name in choices else field.choices
            else:
                field.widget = UnfoldAdminTextInputWidget()

    def clean(self) -> dict[str, Any]:
        asked: dict[str, Any] = {name: said for name, said in self.cleaned_data.items() if said}
        if str(asked.get("disk_size", "")).isdecimal():
            asked["disk_size"] = int(asked["disk_size"])
        checked = BuildTemplateSerializer(data=asked)
        if checked.is_valid():
            return {"asked": new_template_of(dict(checked.validated_data))}
        for name, said in checked.errors.items():
            if not self.has_error(name):
                self.add_error(name if name in self.fields else None, [str(one) for one in said])
        return {}


# So that who looks in the morning sees what went in the night.
SHOWN_MISSING = datetime.timedelta(days=1)
BUILD = Verb("build", "Build from URL", "download", lambda row, told, by: "", form=BuildForm)


@admin.register(Template)
class TemplateAdmin(EventsAreHistory, VerbsMixin, ReadOnlyAdmin):
    verbs = VERBS
    refusals = (Refusal, ProxmoxError)
    list_display = [
        "name",
        "vmid",
        "shown_state",
        "row_menu",
        "place",
        "os_type",
        "disk",
        "has_cloud_init",
        "read",
    ]
    list_display_links = ["name"]
    list_filter = ["cluster", "is_published", "os_type"]
    search_fields = ["name", "vmid"]
    list_select_related = ["cluster", "copy_of", "project"]
    list_before_template = "admin/izvor/build_button.html"
    change_form_outer_before_template = "admin/izvor/verbs.html"
    fields = [
        "shown_state",
        "cluster",
        "vmid",
        "name",
        "project",
        "description",
        "nodes",
        "copies",
        "storages",
        "is_on_shared_storage",
        "os_type",
        "disk",
        "cores",
        "memory_mib",
        "has_cloud_init",
        "created_at",
        "synced_at",
        "details_at",
        "missing_since",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Template]:
        templates: QuerySet[Template] = super().get_queryset(request)
        match = request.resolver_match
        if match and (match.url_name or "").endswith("_changelist"):
            # Who is long gone has a page, for its tasks and events, and no place in the list.
            is_there = Q(missing_since=None) | Q(missing_since__gt=Now() - SHOWN_MISSING)
            templates = templates.filter(is_there)
        return templates.prefetch_related("copies")

    @admin.display(description="offered", ordering="is_published")
    def shown_state(self, template: Template) -> SafeString:
        if template.missing_since is not None:
            return badge("missing", BAD)
        if template.details_at is None:
            return badge("never read", WARN, title="Its disk and storages are not known yet.")
        if template.copy_of is not None:
            return badge(f"copy of {template.copy_of.vmid}", CALM)
        if template.is_published:
            return badge("to all", GOOD)
        return badge(f"to {template.project or 'operators'}", CALM)

    @admin.display(description="on", ordering="node")
    def place(self, template: Template) -> SafeString:
        nodes = sorted({member.node for member in template.family()})
        where = "every node" if is_everywhere(template.family()) else ", ".join(nodes)
        return format_html('{} <span class="iz-quiet">{}</span>', where, template.cluster.name)

    @admin.display(description="makes VMs on")
    def nodes(self, template: Template) -> str:
        family = template.family()
        if is_everywhere(family):
            return ", ".join(sorted(online_nodes([template])[template.cluster_id]))
        nodes = sorted({member.node for member in family})
        return f"{', '.join(nodes)}; elsewhere a VM of it is made there and moved"

    @admin.display(description="copies")
    def copies(self, template: Template) -> SafeString | str:
        if template.copy_of is not None:
            return format_html("It is a copy of {}.", link_to(template.copy_of))
        others = template.family()[1:]
        if not others:
            return "none"
        links = [format_html("{} on {}", link_to(other), other.node) for other in others]
        return SafeString(", ".join(links))

    @admin.display(description="smallest disk", ordering="disk_bytes")
    def disk(self, template: Template) -> str:
        return gib(template.disk_bytes)

    @admin.display(description="read", ordering="details_at")
    def read(self, template: Template) -> SafeString:
        return moment(template.details_at)

    # --- Building one ---

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.build)
        return [
            path("build/", view, name="templates_app_template_build"),
            *super().get_urls(),
        ]

    def build(self, request: HttpRequest) -> HttpResponse:
        """A form; the POST of it becomes one task."""
        if not may_act(request):
            raise PermissionDenied
        form = BuildForm(request.POST if request.method == "POST" else None, rows=[])
        if request.method == "POST" and form.is_valid():
            try:
                asked = form.cleaned_data["asked"]
                task = template_actions.build_template(asked=asked, by=actor_of_user(request.user))
                messages.success(request, format_html("<b>{}</b>: {}", asked.name, task_link(task)))
                return HttpResponseRedirect(self.url_of("changelist"))
            except self.refusals as refusal:
                form.add_error(None, said_by(refusal))
        context = {
            **self.admin_site.each_context(request),
            "title": BUILD.label,
            "opts": self.opts,
            "verb": BUILD,
            "form": form,
            "back": self.url_of("changelist"),
            "action": self.url_of("build"),
        }
        return render(request, "admin/izvor/verb.html", context)

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {**(extra_context or {}), "may_build": may_act(request)}
        answer: HttpResponse = super().changelist_view(request, context)
        return answer
