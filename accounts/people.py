"""People who log in to the admin: their groups decide what they may do there."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, User

from accounts.actors import OPERATOR, VIEWER, Actor

# Made by a migration; `manage.py sync_roles` gives them their permissions.
OPERATORS, VIEWERS = "operators", "viewers"
PERSON = "admin:"
Person = AbstractBaseUser | AnonymousUser


def actor_of_user(user: Person) -> Actor:
    """The person as actions know them and the audit names them, e.g. "admin:ana".

    Superusers and the group `operators` act; everybody else, such as the group `viewers`, looks.
    It has no project, so it is for actions: the admin's own permissions say which rows are seen.
    """
    name = f"{PERSON}{user.get_username()}"
    return Actor(name=name, role=OPERATOR if OPERATORS in roles_of(user) else VIEWER)


def is_person(name: str) -> bool:
    """Whether an actor's name is that of somebody in the admin."""
    return name.startswith(PERSON)


def actor_of_person(name: str) -> Actor | None:
    """The person an actor's name stands for, as they are now; None for one who is gone."""
    user = User.objects.filter(username=name.removeprefix(PERSON)).first()
    return actor_of_user(user) if user else None


def is_let_in(user: Person) -> bool:
    """Into the admin: staff who are superusers, operators or viewers, and nobody else."""
    return bool(getattr(user, "is_staff", False)) and bool(roles_of(user))


def roles_of(user: Person) -> frozenset[str]:
    """Their groups among ours; read once a request, since every page asks several times."""
    if not isinstance(user, User) or not user.is_active:
        return frozenset()
    if user.is_superuser:
        return frozenset({OPERATORS})
    known: frozenset[str] | None = getattr(user, "_izvor_roles", None)
    if known is None:
        ours = user.groups.filter(name__in=(OPERATORS, VIEWERS))
        known = frozenset(ours.values_list("name", flat=True))
        user._izvor_roles = known  # type: ignore[attr-defined]
    return known
