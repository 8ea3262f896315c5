"""Clusters, which operators configure; nodes, storages and networks, which inventory writes."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminPasswordToggleWidget

from accounts.actors import Actor
from accounts.admin_site import (
    BAD,
    BUSY,
    GOOD,
    WARN,
    EventsAreHistory,
    ReadOnlyAdmin,
    as_written,
    badge,
    bar,
    lasted,
    moment,
    space_bar,
)
from accounts.admin_verbs import Verb, VerbsMixin, as_list
from clusters.connect import faults_of
from clusters.environment import endpoint
from clusters.identity import twin_of
from clusters.models import (
    ONLINE,
    PENDING,
    REFUSED,
    REPAIRS,
    UNREACHABLE,
    Cluster,
    Network,
    Node,
    Storage,
)
from clusters.probe import probe
from events.admin_site import AuditedAdmin

STATE_TONES = {ONLINE: GOOD, PENDING: BUSY, UNREACHABLE: BAD, REFUSED: BAD}


class ClusterForm(forms.ModelForm):  # type: ignore[type-arg]
    """The secret goes in and never comes out again."""

    new_secret = forms.CharField(
        label="Secret",
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password"}),
        help_text="The token's secret, or the password. Empty: the stored one stays.",
    )

    repairs = forms.MultipleChoiceField(
        choices=REPAIRS,
        required=False,
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
        help_text="What Izvor puts right by itself where cluster and database differ; what differs "
        "is shown in any case.",
    )

    class Meta:
        model = Cluster
        fields = [
            "name",
            "endpoints",
            "user",
            "token_id",
            "ca_pem",
            "fingerprint",
            "is_insecure",
            "preferred_node",
            "vmid_min",
            "vmid_max",
            "repairs",
            "is_enabled",
        ]

    def clean_endpoints(self) -> list[str]:
        try:
            return [endpoint(url) for url in self.cleaned_data["endpoints"]]
        except ImproperlyConfigured as error:
            raise ValidationError(str(error)) from None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not cleaned.get("new_secret") and not self.instance.sealed_secret:
            self.add_error("new_secret", "A cluster cannot be asked without it.")
        for name, why in faults_of(*self.draft(cleaned)):
            field = "new_secret" if name == "secret" else name
            if field in self.fields:
                self.add_error(field, f"{why[0].upper()}{why[1:]}.")
        twin = twin_of(self.instance) if cleaned.get("is_enabled") else None
        if twin is not None:
            self.add_error("is_enabled", f"{twin} is the same cluster: switch that one off first.")
        if cleaned.get("vmid_min", 0) > cleaned.get("vmid_max", 0):
            self.add_error("vmid_max", "It must not be below the lowest VMID.")
        return cleaned

    def draft(self, cleaned: dict[str, Any]) -> tuple[Cluster, str]:
        """The cluster as it would be, as far as a client is made of it, and its new secret."""
        names = ("user", "token_id", "ca_pem", "fingerprint", "is_insecure")
        values = {name: cleaned.get(name, getattr(self.instance, name)) for name in names}
        return Cluster(**values), cleaned.get("new_secret") or ""


def try_connection(cluster: Cluster, told: dict[str, Any], by: Actor) -> SafeString:
    """Asks and says; the cluster's state is inventory's to write."""
    return as_list(
        [
            format_html(
                '<span class="iz-{}">{}</span>', "yes" if found.is_good else "no", found.text
            )
            for found in probe(cluster)
        ]
    )


@admin.register(Cluster)
class ClusterAdmin(EventsAreHistory, VerbsMixin, AuditedAdmin):
    verbs = (Verb("test", "Test connection", "network_check", try_connection),)
    form = ClusterForm
    event_noun = "cluster"
    untold = frozenset({"new_secret", "ca_pem"})
    readonly_preprocess_fields = {"ca_pem": as_written}
    list_display = ["name", "shown_state", "version", "error", "seen", "is_enabled", "row_menu"]
    search_fields = ["name"]
    readonly_fields = [
        "shown_state",
        "error",
        "kind",
        "version",
        "seen_at",
        "pve_name",
        "ca_fingerprint",
        "is_from_environment",
    ]
    fieldsets = [
        (None, {"fields": ["name", "is_enabled", "shown_state", "error", "version", "seen_at"]}),
        (
            "How to reach it",
            {
                "fields": [
                    "endpoints",
                    "user",
                    "token_id",
                    "new_secret",
                    "ca_pem",
                    "fingerprint",
                    "is_insecure",
                ]
            },
        ),
        ("VMs on it", {"fields": ["preferred_node", "vmid_min", "vmid_max", "repairs"]}),
        (
            "Which cluster it is",
            {"fields": ["kind", "pve_name", "ca_fingerprint", "is_from_environment"]},
        ),
    ]

    change_form_outer_before_template = "admin/izvor/verbs.html"

    @admin.display(description="state", ordering="state")
    def shown_state(self, cluster: Cluster) -> SafeString:
        return state_badge(cluster)

    @admin.display(description="seen", ordering="seen_at")
    def seen(self, cluster: Cluster) -> SafeString:
        return moment(cluster.seen_at)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fixed = list(self.readonly_fields)
        if obj and obj.is_from_environment:
            # `manage.py prepare` would set them back to what the environment says.
            fixed += ["endpoints", "user", "token_id", "ca_pem", "fingerprint", "is_insecure"]
        return fixed

    def save_model(self, request: HttpRequest, obj: Cluster, form: Any, change: bool) -> None:
        if form.cleaned_data.get("new_secret"):
            obj.secret = form.cleaned_data["new_secret"]
        obj.look_due_at = timezone.now()
        super().save_model(request, obj, form, change)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """With its VMs and tasks it would take their history along: switch it off instead."""
        if obj is None or not super().has_delete_permission(request, obj):
            return False
        return not (obj.vms.exists() or obj.operations.exists())


def state_badge(cluster: Cluster) -> SafeString:
    if not cluster.is_enabled:
        return badge("switched off", WARN)
    return badge(cluster.state, STATE_TONES[cluster.state], title=cluster.error)


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ["name", "cluster", "shown_status", "cores", "cpu", "memory", "vms", "seen"]
    list_filter = ["cluster", "status"]
    search_fields = ["name"]
    list_select_related = ["cluster"]
    fields = [
        "shown_status",
        "cluster",
        "name",
        "vms",
        "cores",
        "cpu",
        "memory",
        "disk",
        "up_for",
        "synced_at",
        "missing_since",
    ]

    @admin.display(description="status", ordering="status")
    def shown_status(self, node: Node) -> SafeString:
        return badge(node.status, GOOD if node.is_online else BAD)

    @admin.display(description="CPU", ordering="cpu_fraction")
    def cpu(self, node: Node) -> SafeString:
        return bar(100 * node.cpu_fraction, 100, f"{100 * node.cpu_fraction:.0f} %")

    @admin.display(description="memory", ordering="memory_used_bytes")
    def memory(self, node: Node) -> SafeString:
        return space_bar(node.memory_used_bytes, node.memory_bytes)

    @admin.display(description="root disk")
    def disk(self, node: Node) -> SafeString:
        return space_bar(node.disk_used_bytes, node.disk_bytes)

    @admin.display(description="up for")
    def up_for(self, node: Node) -> str:
        return lasted(datetime.timedelta(seconds=node.uptime_s))

    @admin.display(description="VMs")
    def vms(self, node: Node) -> SafeString:
        url = reverse("admin:vms_virtualmachine_changelist")
        query = urlencode({"cluster": node.cluster.name, "node": node.name})
        return format_html('<a class="iz-link" href="{}?{}">VMs</a>', url, query)

    @admin.display(description="seen", ordering="synced_at")
    def seen(self, node: Node) -> SafeString:
        return moment(node.synced_at)


@admin.register(Storage)
class StorageAdmin(ReadOnlyAdmin):
    list_display = ["name", "node", "cluster", "kind", "shown_status", "space", "holds"]
    list_filter = ["cluster", "kind", "is_shared"]
    search_fields = ["name", "node"]
    list_select_related = ["cluster"]
    fields = [
        "shown_status",
        "cluster",
        "name",
        "node",
        "kind",
        "is_shared",
        "space",
        "holds",
        "synced_at",
        "missing_since",
    ]

    @admin.display(description="status")
    def shown_status(self, storage: Storage) -> SafeString:
        if storage.missing_since is not None:
            return badge("missing", BAD)
        if not storage.is_available:
            return badge("unavailable", WARN)
        return badge("shared" if storage.is_shared else "local", GOOD)

    @admin.display(description="space", ordering="used_bytes")
    def space(self, storage: Storage) -> SafeString:
        return space_bar(storage.used_bytes, storage.total_bytes)

    @admin.display(description="holds")
    def holds(self, storage: Storage) -> str:
        return ", ".join(storage.content)


@admin.register(Network)
class NetworkAdmin(ReadOnlyAdmin):
    list_display = ["name", "node", "cluster", "kind", "is_active", "comment"]
    list_filter = ["cluster", "kind"]
    search_fields = ["name", "node", "comment"]
    list_select_related = ["cluster"]
