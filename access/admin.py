"""Projects, quotas, tokens and people."""

from __future__ import annotations

import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from access import actions
from access.actions import DEFAULT, LIMITS
from accounts.admin_site import bar
from accounts.models import ApiToken, Membership, Project, Quota
from accounts.people import actor_of_user
from events.admin_site import AuditedAdmin
from vms.models import VirtualMachine
from vms.quota import UNITS, usage_of

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, AuditedAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    event_noun = "user"
    untold = frozenset({"password", "password1", "password2", "usable_password"})

    @transaction.atomic
    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        """On a page of its own, which `save_related` knows nothing of."""
        answer = super().user_change_password(request, id, form_url)
        if answer.status_code == 302:
            self.record(
                request, "changed", User.objects.get(pk=id), changes={"password": "changed"}
            )
        return answer


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, AuditedAdmin):
    event_noun = "group"
    untold = frozenset({"permissions"})


class QuotaInline(StackedInline):  # type: ignore[misc]
    model = Quota
    extra = 0
    fields = [*LIMITS]


class MembershipInline(TabularInline):  # type: ignore[misc]
    model = Membership
    extra = 0
    autocomplete_fields = ["user"]


@admin.register(Project)
class ProjectAdmin(AuditedAdmin):
    list_display = ["name", "description", "vms", "members", "limits", "created_at"]
    list_select_related = ["quota"]
    search_fields = ["name", "description"]
    fields = ["name", "description", "usage", "uuid", "created_at"]
    readonly_fields = ["usage", "uuid", "created_at"]
    inlines = [QuotaInline, MembershipInline]
    event_noun = "project"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Project]:
        projects: QuerySet[Project] = super().get_queryset(request)
        # Each counted by itself: two joins at once would count every pair.
        living = VirtualMachine.objects.filter(project=OuterRef("pk"), deleted_at=None)
        people = Membership.objects.filter(project=OuterRef("pk"))
        return projects.annotate(vm_count=count_of(living), member_count=count_of(people))

    @admin.display(description="VMs", ordering="vm_count")
    def vms(self, project: Any) -> SafeString:
        url = reverse("admin:vms_virtualmachine_changelist")
        link = '<a class="iz-link" href="{}?project={}">{}</a>'
        return format_html(link, url, project.name, project.vm_count)

    @admin.display(description="members", ordering="member_count")
    def members(self, project: Any) -> int:
        return int(project.member_count)

    @admin.display(description="uses")
    def usage(self, project: Project) -> SafeString:
        """Of each thing that a quota limits, how much there is of how much there may be."""
        if project.pk is None:
            return SafeString("")
        quota = getattr(project, "quota", None) or Quota()
        used = usage_of(project).counted()
        limits = {
            "vms": quota.vms,
            "cores": quota.cores,
            "memory": quota.memory_mib,
            "disk": quota.disk_gib,
            "snapshots": quota.snapshots,
        }
        return format_html_join(
            "",
            "<p>{}</p>",
            ((used_of(used[name], limits[name], UNITS[name]),) for name in used),
        )

    @admin.display(description="quota")
    def limits(self, project: Project) -> str:
        quota = getattr(project, "quota", None) or Quota()
        limits = {name: getattr(quota, name) for name in LIMITS}
        shown = [f"{name} {limit}" for name, limit in limits.items() if limit is not None]
        return ", ".join(shown) or "no limit"

    def event_project(self, row: Project) -> int | None:
        return row.pk

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fixed = ["name"] if obj and obj.name == DEFAULT else []
        return [*self.readonly_fields, *fixed]

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A project that still has VMs cannot go; the default one is where new tokens begin."""
        if obj is None or not super().has_delete_permission(request, obj):
            return False
        return obj.name != DEFAULT and not obj.virtualmachine_set.filter(deleted_at=None).exists()

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Its tokens go with it, though nobody may remove one alone; what is left of its VMs, which
        are gone, becomes nobody's."""
        shown, counts, _, _ = super().get_deleted_objects(objs, request)
        return shown, counts, set(), []

    def delete_model(self, request: HttpRequest, obj: Project) -> None:
        actions.delete_project(obj, by=actor_of_user(request.user))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        before = limits_of(form.instance)
        super().save_related(request, form, formsets, change)
        after = Quota.objects.filter(project=form.instance).first()
        if limits_of(form.instance) != before:
            shown = after or Quota(project=form.instance)
            actions.record_quota(shown, before, by=actor_of_user(request.user))


def count_of(rows: QuerySet[Any]) -> Coalesce:
    each = rows.order_by().values("project").annotate(count=Count("pk")).values("count")
    return Coalesce(Subquery(each), 0)


def used_of(used: int, limit: int | None, unit: str) -> SafeString:
    if limit is None:
        return format_html("{} {}, no limit", used, unit)
    return bar(used, limit, f"{used} of {limit} {unit}")


def limits_of(project: Project) -> dict[str, int | None]:
    """As the database has them; all None where nothing is limited."""
    rows = Quota.objects.filter(project=project).values(*LIMITS)
    return rows.first() or dict.fromkeys(LIMITS)


class ApiTokenForm(forms.ModelForm):  # type: ignore[type-arg]
    def clean_expires_at(self) -> datetime.datetime | None:
        asked: datetime.datetime | None = self.cleaned_data["expires_at"]
        if asked is not None and "expires_at" in self.changed_data and asked <= timezone.now():
            raise ValidationError("Give a time in the future.")
        return asked


@admin.register(ApiToken)
class ApiTokenAdmin(ModelAdmin):  # type: ignore[misc]
    """Saved by the same verbs as the API's, which write the events."""

    form = ApiTokenForm
    list_display = ["name", "project", "role", "prefix", "last_used_at", "expires_at", "revoked_at"]
    list_filter = ["role", "project"]
    search_fields = ["name", "prefix"]
    fields = ["name", "project", "role", "expires_at"]
    actions = ["revoke"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # What a token may do is settled when it is made; to change that, make another.
        return ["project", "role"] if obj else []

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        actor = actor_of_user(request.user)
        if change:
            changes = {name: form.cleaned_data[name] for name in form.changed_data}
            if changes:
                actions.change_token(obj, changes=changes, by=actor)
            return
        token, text = actions.create_token(
            name=obj.name, project=obj.project, role=obj.role, expires_at=obj.expires_at, by=actor
        )
        obj.pk = token.pk
        messages.warning(request, f"The token, shown this once: {text}")

    @admin.action(description="Revoke", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        living = queryset.filter(revoked_at=None)
        for token in living:
            actions.revoke_token(token, by=actor_of_user(request.user))
        messages.success(request, f"{len(living)} revoked.")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.revoked_at is not None:
            return False
        return bool(super().has_change_permission(request, obj))

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # revoked ones stay, so that the audit can name them
