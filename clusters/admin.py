"""Clusters, which operators configure; nodes, storages and networks, which inventory writes."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.http import HttpRequest
from django.utils import timezone
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordToggleWidget

from accounts.admin_site import ReadOnlyAdmin, gib
from clusters.environment import endpoint
from clusters.models import ONLINE, PENDING, REFUSED, UNREACHABLE, Cluster, Network, Node, Storage
from events.admin_site import AuditedAdmin

STATE_COLOURS = {ONLINE: "success", PENDING: "info", UNREACHABLE: "danger", REFUSED: "warning"}


class ClusterForm(forms.ModelForm):  # type: ignore[type-arg]
    """The secret goes in and never comes out again."""

    new_secret = forms.CharField(
        label="Secret",
        required=False,
        strip=False,
        widget=UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password"}),
        help_text="The token's secret, or the password. Empty: the stored one stays.",
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
        if cleaned.get("vmid_min", 0) > cleaned.get("vmid_max", 0):
            self.add_error("vmid_max", "It must not be below the lowest VMID.")
        return cleaned


@admin.register(Cluster)
class ClusterAdmin(AuditedAdmin):
    form = ClusterForm
    event_noun = "cluster"
    untold = frozenset({"new_secret", "ca_pem"})
    list_display = ["name", "shown_state", "version", "kind", "seen_at", "is_enabled"]
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
        ("VMs on it", {"fields": ["preferred_node", "vmid_min", "vmid_max"]}),
        (
            "Which cluster it is",
            {"fields": ["kind", "pve_name", "ca_fingerprint", "is_from_environment"]},
        ),
    ]

    @display(description="state", label=STATE_COLOURS)  # type: ignore[untyped-decorator]
    def shown_state(self, cluster: Cluster) -> str:
        return cluster.state

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
        return obj is not None and not (obj.vms.exists() or obj.operations.exists())


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ["name", "cluster", "status", "cores", "cpu", "memory", "synced_at"]
    list_filter = ["cluster", "status"]
    search_fields = ["name"]
    list_select_related = ["cluster"]

    @admin.display(description="CPU")
    def cpu(self, node: Node) -> str:
        return f"{100 * node.cpu_fraction:.0f} %"

    @admin.display(description="memory")
    def memory(self, node: Node) -> str:
        return f"{gib(node.memory_used_bytes)} of {gib(node.memory_bytes)}"


@admin.register(Storage)
class StorageAdmin(ReadOnlyAdmin):
    list_display = ["name", "node", "cluster", "kind", "is_shared", "is_available", "space"]
    list_filter = ["cluster", "kind", "is_shared"]
    search_fields = ["name", "node"]
    list_select_related = ["cluster"]

    @admin.display(description="space")
    def space(self, storage: Storage) -> str:
        return f"{gib(storage.used_bytes)} of {gib(storage.total_bytes)}"


@admin.register(Network)
class NetworkAdmin(ReadOnlyAdmin):
    list_display = ["name", "node", "cluster", "kind", "is_active", "comment"]
    list_filter = ["cluster", "kind"]
    search_fields = ["name", "node", "comment"]
    list_select_related = ["cluster"]
