"""People who log in to the admin: their groups decide what they may do there."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User

from accounts.actors import OPERATOR, VIEWER, Actor

# Made by a migration; `manage.py sync_roles` gives them their permissions.
OPERATORS, VIEWERS = "operators", "viewers"


def actor_of_user(user: AbstractBaseUser | AnonymousUser) -> Actor:
    """The person as actions know them and the audit names them, e.g. "admin:ana".

    Superusers and the group `operators` act; everybody else, such as the group `viewers`, looks.
    It has no project, so it is for actions: the admin's own permissions say which rows are seen.
    """
    name = f"admin:{user.get_username()}"
    acts = isinstance(user, User) and (
        user.is_active and (user.is_superuser or user.groups.filter(name=OPERATORS).exists())
    )
    return Actor(name=name, role=OPERATOR if acts else VIEWER)
