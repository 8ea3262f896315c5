"""Verbs on projects, tokens and quotas, each one transaction with an event that names who did it.

All raise `operations.refusals`.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.actors import OPERATOR, Actor
from accounts.models import ApiToken, Project, Quota
from events.models import record_event
from operations import idempotency
from operations.refusals import Conflict, InvalidInput, NotAllowed
from vms.models import VirtualMachine
from vms.quota import hold

# Where everything begins: the first tokens, and requests without any (IZVOR_AUTH=none).
DEFAULT = "default"
LIMITS = ("vms", "cores", "memory_mib", "disk_gib", "snapshots")


@transaction.atomic
def create_project(*, name: str, description: str, by: Actor) -> Project:
    project = Project(name=name, description=description)
    _save_project(project, force_insert=True)
    record_event("project.created", by=by, project_id=project.pk, **_about(project))
    idempotency.note_done(201, f"project:{project.uuid}")
    return project


@transaction.atomic
def change_project(project: Project, *, changes: dict[str, str], by: Actor) -> None:
    """`changes`: name, description."""
    if project.name == DEFAULT and changes.get("name", DEFAULT) != DEFAULT:
        raise Conflict("default_project", f"Tokens begin in {DEFAULT}; it keeps its name.")
    before = {name: getattr(project, name) for name in changes}
    for name, value in changes.items():
        setattr(project, name, value)
    _save_project(project, update_fields=list(changes))
    record_event(
        "project.changed",
        by=by,
        project_id=project.pk,
        **_about(project),
        changes={name: [before[name], value] for name, value in changes.items()},
    )
    idempotency.note_done(200, f"project:{project.uuid}")


def _save_project(project: Project, **how: Any) -> None:
    try:
        with transaction.atomic():
            project.save(**how)
    except IntegrityError:
        raise Conflict("project_exists", f"There is a project {project.name} already.") from None


@transaction.atomic
def delete_project(project: Project, *, by: Actor) -> None:
    """With its tokens, quota and webhooks. What it did stays in the audit, as nobody's."""
    # Held: a VM that is being made in it now is counted, or finds no project any more.
    project = Project.objects.select_for_update().get(pk=project.pk)
    if project.name == DEFAULT:
        raise Conflict("default_project", f"Tokens begin in {DEFAULT}; it stays.")
    if by.project is not None and by.project.pk == project.pk:
        raise Conflict("own_project", "The token that asks belongs to this project: use another.")
    vms = VirtualMachine.objects.filter(project=project)
    living = vms.filter(deleted_at=None).count()
    if living:
        raise Conflict(
            "project_has_vms",
            f"Project {project} has {living} VMs: delete them, or give them away.",
        )
    vms.update(project=None)
    record_event("project.deleted", by=by, **_about(project))
    project.delete()
    idempotency.note_done(204)


def _about(project: Project) -> dict[str, Any]:
    return {"subject": project.uuid, "label": project.name}


@transaction.atomic
def set_quota(project: Project, *, limits: dict[str, int | None], by: Actor) -> Quota:
    """`limits` by the names of LIMITS; None sets none. What is not named stays."""
    quota, _ = Quota.objects.select_for_update().get_or_create(project=project)
    before = {name: getattr(quota, name) for name in LIMITS}
    for name, limit in limits.items():
        setattr(quota, name, limit)
    quota.save(update_fields=list(limits))
    record_quota(quota, before, by=by)
    idempotency.note_done(200, f"quota:{project.uuid}")
    return quota


def record_quota(quota: Quota, before: dict[str, Any], *, by: Actor) -> None:
    changes = {
        name: [before[name], getattr(quota, name)]
        for name in LIMITS
        if before[name] != getattr(quota, name)
    }
    record_event(
        "quota.changed",
        by=by,
        project_id=quota.project_id,
        **_about(quota.project),
        changes=changes,
    )


@transaction.atomic
def create_token(
    *,
    name: str,
    project: Project,
    role: str,
    expires_at: datetime.datetime | None,
    by: Actor,
) -> tuple[ApiToken, str]:
    """The second value is the token's text, which is stored nowhere.

    Who is no operator makes tokens for its own project, which can do no more, and live no longer,
    than the one that asks.
    """
    if not by.is_operator:
        if role == OPERATOR:
            raise NotAllowed("not_allowed", "Only an operator's token makes operators' tokens.")
        if by.project != project:
            raise NotAllowed("not_allowed", "This token makes tokens for its own project only.")
    hold(project)
    expires_at = _end_allowed(expires_at, by=by)
    try:
        with transaction.atomic():
            token, text = ApiToken.objects.issue(
                name=name, project=project, role=role, expires_at=expires_at
            )
    except IntegrityError:
        raise _name_taken(name, project) from None
    _record_token("token.created", token, by, role=role, expires_at=_shown(expires_at))
    idempotency.note_done(201, f"token:{token.uuid}")
    return token, text


@transaction.atomic
def change_token(token: ApiToken, *, changes: dict[str, Any], by: Actor) -> None:
    """`changes`: name, expires_at. What it may do is settled when it is made."""
    if token.revoked_at is not None:
        raise Conflict("token_revoked", f"Token {token.name} is revoked.")
    if "expires_at" in changes:
        changes = {**changes, "expires_at": _end_allowed(changes["expires_at"], by=by)}
    for name, value in changes.items():
        setattr(token, name, value)
    try:
        with transaction.atomic():
            token.save(update_fields=list(changes))
    except IntegrityError:
        raise _name_taken(token.name, token.project) from None
    _record_token(
        "token.changed", token, by, changed=sorted(changes), expires_at=_shown(token.expires_at)
    )
    idempotency.note_done(200, f"token:{token.uuid}")


@transaction.atomic
def revoke_token(token: ApiToken, *, by: Actor) -> None:
    """From now on nobody gets in with it; one that is revoked already stays so."""
    rows = ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())
    if rows:
        _record_token("token.revoked", token, by)
    idempotency.note_done(204)


def _end_allowed(asked: datetime.datetime | None, *, by: Actor) -> datetime.datetime | None:
    """A token that ends makes none that outlives it; without a wish, they end together."""
    if asked is not None and asked <= timezone.now():
        raise InvalidInput("expires_at", "Give a time in the future.")
    if by.is_operator or by.token_id is None:
        return asked
    own_end = ApiToken.objects.get(pk=by.token_id).expires_at
    if own_end is None:
        return asked
    if asked is not None and asked > own_end:
        raise NotAllowed(
            "not_allowed",
            f"The token that asks ends at {_shown(own_end)}; no other may outlive it.",
        )
    return asked or own_end


def _name_taken(name: str, project: Project) -> Conflict:
    return Conflict(
        "token_exists",
        f"Project {project} has a token named {name}; revoke it, or take a new name.",
    )


def _record_token(kind: str, token: ApiToken, by: Actor, **data: Any) -> None:
    record_event(
        kind,
        by=by,
        project_id=token.project_id,
        subject=token.uuid,
        label=token.name,
        prefix=token.prefix,
        **data,
    )


def _shown(moment: datetime.datetime | None) -> str | None:
    return moment.astimezone(datetime.UTC).isoformat() if moment else None
