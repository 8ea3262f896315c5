"""What people do with webhooks: each in one transaction, with an event that names them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from accounts.actors import Actor
from accounts.models import Project
from events.kinds import PING
from events.models import Event, Webhook, record_event


@transaction.atomic
def create_webhook(
    *,
    url: str,
    project: Project | None,
    types: Sequence[str],
    description: str = "",
    is_enabled: bool = True,
    by: Actor,
) -> tuple[Webhook, str]:
    """Without a project it hears of everything. The second value is its secret, shown this once."""
    webhook = Webhook(
        url=url,
        project=project,
        types=list(types),
        description=description,
        is_enabled=is_enabled,
    )
    secret = webhook.new_secret()
    webhook.save(force_insert=True)
    _record("webhook.created", webhook, by, types=webhook.types)
    return webhook, secret


@transaction.atomic
def change_webhook(
    webhook: Webhook,
    *,
    url: str | None = None,
    types: Sequence[str] | None = None,
    description: str | None = None,
    is_enabled: bool | None = None,
    by: Actor,
) -> None:
    """Change what is not None. Switched on again, it counts as one that has not failed yet."""
    named = {
        "url": url,
        "types": None if types is None else list(types),
        "description": description,
        "is_enabled": is_enabled,
    }
    values = {name: value for name, value in named.items() if value is not None}
    for name, value in values.items():
        setattr(webhook, name, value)
    if is_enabled:
        webhook.failing_since = None
    webhook.save(update_fields=[*values, *(["failing_since"] if is_enabled else [])])
    told = {name: value for name, value in values.items() if name != "url"}
    _record("webhook.changed", webhook, by, changed=sorted(values), **told)


@transaction.atomic
def delete_webhook(webhook: Webhook, *, by: Actor) -> None:
    """Its deliveries go with it."""
    _record("webhook.deleted", webhook, by)
    webhook.delete()


def ping_webhook(webhook: Webhook, *, by: Actor) -> Event:
    """A test event, which goes to this webhook alone, whatever types it wants."""
    return _record(PING, webhook, by)


def _record(kind: str, webhook: Webhook, by: Actor, **data: Any) -> Event:
    return record_event(
        kind,
        by=by,
        project_id=webhook.project_id,
        subject=webhook.uuid,
        label=str(webhook),
        **data,
    )
