"""What a path or a body names, among what the caller may see; strangers' things are not there."""

from __future__ import annotations

import uuid

from rest_framework.request import Request

from accounts.actors import Actor
from accounts.models import ApiToken, Project
from accounts.rest import actor_of, as_uuid, is_storable
from events.models import Delivery, Webhook
from operations.refusals import NotFound


def find_project(actor: Actor, wanted: str) -> Project:
    """By name or uuid."""
    visible = Project.objects.visible_to(actor).select_related("quota")
    found: Project | None = visible.filter(name=wanted).first() if is_storable(wanted) else None
    if found is None and (handle := as_uuid(wanted)):
        found = visible.filter(uuid=handle).first()
    if found is None:
        raise NotFound("project_not_found", f"There is no project {wanted[:64]!r}.")
    return found


def find_token(request: Request, wanted: str) -> ApiToken:
    visible = ApiToken.objects.visible_to(actor_of(request)).select_related("project")
    found = visible.filter(uuid=handle_of(wanted)).first()
    if found is None:
        raise NotFound("token_not_found", f"There is no token {wanted[:64]!r}.")
    return found


def find_webhook(request: Request, wanted: str) -> Webhook:
    visible = Webhook.objects.visible_to(actor_of(request)).select_related("project")
    found: Webhook | None = visible.filter(uuid=handle_of(wanted)).first()
    if found is None:
        raise NotFound("webhook_not_found", f"There is no webhook {wanted[:64]!r}.")
    return found


def find_delivery(webhook: Webhook, wanted: str) -> Delivery:
    of_it = webhook.deliveries.select_related("event", "webhook")
    found: Delivery | None = of_it.filter(uuid=handle_of(wanted)).first()
    if found is None:
        raise NotFound("delivery_not_found", f"There is no delivery {wanted[:64]!r}.")
    return found


def handle_of(text: str) -> uuid.UUID:
    """One that is nobody's for what is no uuid."""
    return as_uuid(text) or uuid.UUID(int=0)
