"""The API of webhooks, and of what was delivered to them."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from rest_framework.decorators import action
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from access.finding import find_delivery, find_webhook
from access.serializers import (
    NewWebhookSerializer,
    WebhookChangesSerializer,
    delivery_body,
    webhook_body,
)
from access.token_views import project_for
from accounts.rest import (
    PAGING,
    NothingSerializer,
    actor_of,
    listing,
    page_of,
    parse,
    refuse_unknown_params,
)
from events import deliveries, outbox, webhooks
from events.kinds import PING
from events.models import DELIVERY_STATES, Webhook
from operations import idempotency
from operations.refusals import Conflict, NotAllowed
from operations.rest import idempotent, shows
from vms.quota import hold


class WebhookViewSet(ViewSet):
    """Webhooks: addresses that are told of events."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"project"} | PAGING)
        found = Webhook.objects.visible_to(actor_of(request)).select_related("project")
        if request.query_params.get("project"):
            found = found.filter(project__name=request.query_params["project"])
        rows, page = page_of(request, found, order="-pk")
        return listing("webhooks", [webhook_body(webhook) for webhook in rows], page)

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        return Response(webhook_body(find_webhook(request, pk)))

    @idempotent
    def create(self, request: Request) -> Response:
        """`secret`, with which deliveries are signed, is shown in this answer only."""
        refuse_unknown_params(request, set())
        actor, checked = actor_of(request), parse(NewWebhookSerializer, request)
        is_global = "project" in checked and checked["project"] is None
        if is_global and not actor.is_operator:
            raise NotAllowed(
                "not_allowed", "Only an operator's token hears of all projects: name your own."
            )
        with transaction.atomic():
            webhook, secret = webhooks.create_webhook(
                url=checked["url"],
                project=None if is_global else hold(project_for(actor, checked.get("project"))),
                types=checked.get("types", []),
                description=checked.get("description", ""),
                is_enabled=checked.get("enabled", True),
                by=actor,
            )
            idempotency.note_done(201, f"webhook:{webhook.uuid}")
        headers = {"Location": f"/api/v1/webhooks/{webhook.uuid}"}
        return Response({**webhook_body(webhook), "secret": secret}, status=201, headers=headers)

    @idempotent
    def partial_update(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        webhook = find_webhook(request, pk)
        checked = parse(WebhookChangesSerializer, request)
        with transaction.atomic():
            webhooks.change_webhook(
                webhook,
                url=checked.get("url"),
                types=checked.get("types"),
                description=checked.get("description"),
                is_enabled=checked.get("enabled"),
                by=actor_of(request),
            )
            idempotency.note_done(200, f"webhook:{webhook.uuid}")
        return Response(webhook_body(webhook))

    @idempotent
    def destroy(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        webhook = find_webhook(request, pk)
        with transaction.atomic():
            webhooks.delete_webhook(webhook, by=actor_of(request))
            idempotency.note_done(204)
        return Response(status=204)

    @action(detail=True, methods=["post"])
    @idempotent
    def test(self, request: Request, pk: str) -> Response:
        """Sends a `webhook.ping`, whatever types it wants; the answer is its delivery."""
        refuse_unknown_params(request, set())
        parse(NothingSerializer, request)
        webhook = find_webhook(request, pk)
        if not webhook.is_enabled:
            raise switched_off()
        with transaction.atomic():
            event = webhooks.ping_webhook(webhook, by=actor_of(request))
            idempotency.note_done(202, f"ping:{webhook.uuid}")
        outbox.publish()
        made = webhook.deliveries.select_related("event").filter(event=event).first()
        if made is None:
            raise switched_off()
        return Response(delivery_body(made), status=202)


def switched_off() -> Conflict:
    return Conflict("webhook_disabled", "It is switched off: set `enabled` to true first.")


class DeliveryViewSet(ViewSet):
    """What a webhook was told, or is about to be."""

    lookup_value_regex = "[^/]+"

    def list(self, request: Request, webhook_pk: str) -> Response:
        refuse_unknown_params(request, {"state"} | PAGING)
        found = find_webhook(request, webhook_pk).deliveries.select_related("event")
        state = request.query_params.get("state")
        if state:
            if state not in DELIVERY_STATES:
                raise ValidationError({"state": [f"Give one of {', '.join(DELIVERY_STATES)}."]})
            found = found.filter(state=state)
        rows, page = page_of(request, found, order="-pk")
        return listing("deliveries", [delivery_body(delivery) for delivery in rows], page)

    def retrieve(self, request: Request, webhook_pk: str, pk: str) -> Response:
        refuse_unknown_params(request, set())
        return Response(delivery_body(find_delivery(find_webhook(request, webhook_pk), pk)))

    @idempotent
    def redeliver(self, request: Request, webhook_pk: str, pk: str) -> Response:
        """Once more, under the same id."""
        refuse_unknown_params(request, set())
        parse(NothingSerializer, request)
        delivery = find_delivery(find_webhook(request, webhook_pk), pk)
        with transaction.atomic():
            if not deliveries.redeliver(delivery, by=actor_of(request)):
                raise Conflict("delivery_under_way", "It is being delivered at this moment.")
            idempotency.note_done(202, f"delivery:{delivery.webhook.uuid}/{delivery.uuid}")
        delivery.refresh_from_db()
        return Response(delivery_body(delivery), status=202)


@shows("webhook")
def shown_webhook(request: Request, uuid: str) -> dict[str, Any]:
    return webhook_body(find_webhook(request, uuid))


@shows("ping")
def shown_ping(request: Request, uuid: str) -> dict[str, Any]:
    """The latest test's delivery."""
    pings = find_webhook(request, uuid).deliveries.filter(event__kind=PING)
    return delivery_body(pings.select_related("event").order_by("-pk")[0])


@shows("delivery")
def shown_delivery(request: Request, handles: str) -> dict[str, Any]:
    webhook, _, delivery = handles.partition("/")
    return delivery_body(find_delivery(find_webhook(request, webhook), delivery))
