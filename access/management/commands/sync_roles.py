"""`manage.py sync_roles`: what the groups `operators` and `viewers` may do in the admin.

`prepare` runs it after each migration, since permissions exist only then.
"""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.core.management.base import BaseCommand
from django.db.models import Q

from accounts.people import OPERATORS, VIEWERS

# People and groups stay with superusers: who may change one may become one.
APPS = ("accounts", "events", "clusters", "operations", "templates_app", "vms")
# What operators make, change and remove; the pages themselves say what each of them allows.
EDITED = {
    "accounts": ("project", "quota", "membership", "apitoken"),
    "events": ("webhook",),
    "clusters": ("cluster",),
    "operations": ("lane",),
    "templates_app": ("template",),
    "vms": ("size", "virtualmachine"),
}


class Command(BaseCommand):
    help = "Gives the groups of people their permissions in the admin."

    def handle(self, *args: Any, **options: Any) -> None:
        ours = Permission.objects.filter(content_type__app_label__in=APPS)
        looking = ours.filter(codename__startswith="view_")
        edited = Q(pk=None)
        for app, models in EDITED.items():
            edited |= Q(content_type__app_label=app, content_type__model__in=models)
        self.give(VIEWERS, looking)
        self.give(OPERATORS, ours.filter(edited) | looking)

    def give(self, name: str, permissions: Any) -> None:
        """Adds what is missing; what a superuser gave besides stays."""
        group, _ = Group.objects.get_or_create(name=name)
        group.permissions.add(*permissions)
