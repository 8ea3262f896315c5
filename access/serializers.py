"""The shapes of requests and answers about projects, tokens, quotas and webhooks."""

from __future__ import annotations

import datetime
import re
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from accounts.models import ROLES, ApiToken, Project, Quota
from accounts.rest import StrictSerializer
from events.addresses import Unusable, parse_url
from events.models import Delivery, Webhook
from events.wanted import types_of
from vms.fields import StrictBooleanField, StrictCharField, StrictIntegerField

_SLUG = re.compile(r"[A-Za-z0-9_-]+")
# A limit in the API's words, and the quota's column.
LIMIT_OF = {
    "vms": "vms",
    "cores": "cores",
    "memory": "memory_mib",
    "disk": "disk_gib",
    "snapshots": "snapshots",
}
LIMIT_MAX = 2**31 - 1


def check_slug(name: str) -> None:
    if not _SLUG.fullmatch(name):
        raise ValidationError("Give letters, digits, hyphens and underscores.")


def check_printable(name: str) -> None:
    if not name.isprintable():
        raise ValidationError("Give characters that can be seen.")


def check_url(url: str) -> None:
    try:
        parse_url(url)
    except Unusable as error:
        raise ValidationError(str(error)) from None


class StrictDateTimeField(serializers.DateTimeField):
    """RFC 3339 with its offset: a time without one means another moment to everybody."""

    def to_internal_value(self, value: Any) -> datetime.datetime:
        if not isinstance(value, str) or not re.search(r"(?i)(Z|[+-]\d\d:\d\d)$", value):
            raise ValidationError("Give a time like 2030-01-31T12:00:00Z.")
        return super().to_internal_value(value)


class Changing(StrictSerializer):
    """A PATCH: what is named is changed, the rest stays."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError("Name at least one field to change.")
        return attrs


class NewProjectSerializer(StrictSerializer):
    name = StrictCharField(max_length=63, validators=[check_slug])
    description = StrictCharField(max_length=200, default="", allow_blank=True)


class ProjectChangesSerializer(Changing):
    name = StrictCharField(max_length=63, required=False, validators=[check_slug])
    description = StrictCharField(max_length=200, required=False, allow_blank=True)


class NewTokenSerializer(StrictSerializer):
    name = StrictCharField(max_length=63, validators=[check_printable])
    project = StrictCharField(
        max_length=63, required=False, help_text="a name or uuid; else the asking token's"
    )
    role = serializers.ChoiceField(choices=[role for role, _ in ROLES], default="member")
    expires_at = StrictDateTimeField(required=False, allow_null=True, default=None)


class TokenChangesSerializer(Changing):
    name = StrictCharField(max_length=63, required=False, validators=[check_printable])
    expires_at = StrictDateTimeField(required=False, allow_null=True)


class LimitField(StrictIntegerField):
    """A whole number, or null for no limit."""

    def __init__(self, **more: Any) -> None:
        super().__init__(min_value=0, max_value=LIMIT_MAX, allow_null=True, required=False, **more)


class QuotaChangesSerializer(Changing):
    """`PATCH /quotas/{project}`; null means no limit."""

    vms = LimitField()
    cores = LimitField()
    memory = LimitField(help_text="MiB")
    disk = LimitField(help_text="GiB")
    snapshots = LimitField()


class QuotaLimitsSerializer(QuotaChangesSerializer):
    """`PUT /quotas/{project}`: what is not named has no limit."""

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        return {name: attrs.get(name) for name in LIMIT_OF}


class WebhookFields(StrictSerializer):
    description = StrictCharField(max_length=200, required=False, allow_blank=True)
    types = serializers.ListField(
        child=StrictCharField(max_length=60),
        required=False,
        max_length=50,
        help_text="e.g. task.succeeded, vm.*; empty: all",
    )
    enabled = StrictBooleanField(required=False)

    def validate_types(self, types: list[str]) -> list[str]:
        return list(types_of(types))


class NewWebhookSerializer(WebhookFields):
    url = StrictCharField(max_length=2000, validators=[check_url])
    project = StrictCharField(
        max_length=63,
        required=False,
        allow_null=True,
        help_text="a name or uuid; null (operators only): all projects; else the asking token's",
    )


class WebhookChangesSerializer(WebhookFields, Changing):
    url = StrictCharField(max_length=2000, required=False, validators=[check_url])


def project_body(project: Project) -> dict[str, Any]:
    return {
        "id": str(project.uuid),
        "name": project.name,
        "description": project.description,
        "created_at": project.created_at,
    }


def token_body(token: ApiToken) -> dict[str, Any]:
    """Wants `project` selected with it. Its text is nowhere."""
    return {
        "id": str(token.uuid),
        "name": token.name,
        "project": token.project.name,
        "role": token.role,
        "prefix": token.prefix,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "revoked_at": token.revoked_at,
    }


def quota_body(project: Project, used: dict[str, int]) -> dict[str, Any]:
    """Wants `quota` selected with the project. `used` is null for what is not counted."""
    quota = getattr(project, "quota", None) or Quota()
    limits = {
        name: {"used": used.get(name), "limit": getattr(quota, column)}
        for name, column in LIMIT_OF.items()
    }
    return {"project": project.name, "project_id": str(project.uuid), **limits}


def webhook_body(webhook: Webhook) -> dict[str, Any]:
    """Wants `project` selected with it. The secret is shown only when it is made."""
    return {
        "id": str(webhook.uuid),
        "project": webhook.project.name if webhook.project else None,
        "url": webhook.url,
        "description": webhook.description,
        "types": webhook.types,
        "enabled": webhook.is_enabled,
        "failing_since": webhook.failing_since,
        "created_at": webhook.created_at,
    }


def delivery_body(delivery: Delivery) -> dict[str, Any]:
    """Wants `event` selected with it."""
    return {
        "id": str(delivery.uuid),
        "event": {"id": delivery.event.seq, "type": delivery.event.kind},
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_at": delivery.next_at,
        "response_status": delivery.response_status,
        "response_body": delivery.response_body or None,
        "error": delivery.error or None,
        "duration_ms": delivery.duration_ms,
        "created_at": delivery.created_at,
        "ended_at": delivery.ended_at,
    }
