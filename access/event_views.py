"""The API of events: the audit, a page at a time, and the stream, as they happen."""

from __future__ import annotations

import datetime

from django.db.models import QuerySet
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from access.serializers import StrictDateTimeField
from accounts.actors import Actor
from accounts.rest import PAGING, actor_of, as_uuid, listing, page_of, refuse_unknown_params
from events import outbox
from events.bodies import event_body
from events.models import Event
from events.stream import STREAM_HEADER, Order
from events.wanted import Wanted

FILTERS = {"type", "vm", "subject", "project", "since"}


class AuditViewSet(ViewSet):
    """The audit: what happened, the newest first."""

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, FILTERS | PAGING, lists={"type"})
        # What is committed has its number before it is listed, so that nothing comes in later
        # between what was shown.
        outbox.publish()
        events = filtered(request, actor_of(request)).select_related("project")
        rows, page = page_of(request, events, order="-seq")
        return listing("events", [event_body(event) for event in rows], page)


def filtered(request: Request, actor: Actor) -> QuerySet[Event]:
    asked = request.query_params
    events: QuerySet[Event] = Event.objects.exclude(seq=None)
    events = events.filter(Wanted.from_request(asked, actor).as_q())
    if asked.get("subject"):
        subject = as_uuid(asked["subject"])
        if subject is None:
            raise ValidationError({"subject": ["Give a uuid."]})
        events = events.filter(subject=subject)
    if asked.get("project"):
        events = events.filter(project__name=asked["project"])
    if asked.get("since"):
        events = events.filter(at__gte=moment(asked["since"]))
    return events


def moment(text: str) -> datetime.datetime:
    try:
        return StrictDateTimeField().to_internal_value(text)
    except ValidationError as error:
        raise ValidationError({"since": error.detail}) from None


class EventStreamRenderer(JSONRenderer):
    """The head of a stream has no body; the layer before Django sends what follows. What goes wrong
    is JSON also for clients that accept only streams."""

    media_type = "text/event-stream"
    format = "event-stream"


class EventStreamViewSet(ViewSet):
    """Events as they happen (server-sent events). `Last-Event-ID` goes on after that event."""

    renderer_classes = [EventStreamRenderer, JSONRenderer]

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"type", "vm", "last_event_id"}, lists={"type"})
        actor = actor_of(request)
        order = Order(
            wanted=Wanted.from_request(request.query_params, actor),
            after=last_heard(request),
            token_id=actor.token_id,
        )
        headers = {STREAM_HEADER: order.to_header()} if request.method == "GET" else {}
        return Response(headers=headers)


def last_heard(request: Request) -> int | None:
    """The header, which browsers send by themselves, before the parameter."""
    text = request.headers.get("Last-Event-ID") or request.query_params.get("last_event_id")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise ValidationError({"Last-Event-ID": ["Give the `id` of an event, a whole number."]})
    return int(text)
