"""An event as it is told: in the audit, in the stream and to webhooks alike."""

from __future__ import annotations

from typing import Any

import orjson

from events.models import Event


def event_body(event: Event) -> dict[str, Any]:
    """Wants `project` selected with it, and a number: before its commit nobody is told."""
    return {
        "id": event.seq,
        "type": event.kind,
        "time": event.at,
        "project": event.project.name if event.project else None,
        "subject": str(event.subject) if event.subject else None,
        "label": event.subject_label,
        "by": event.actor,
        "task": str(event.task) if event.task else None,
        "details": event.data,
    }


def event_json(event: Event) -> bytes:
    """One line; the same bytes each time, as a signature needs it."""
    return orjson.dumps(event_body(event), option=orjson.OPT_UTC_Z)


def event_frame(event: Event) -> bytes:
    """The event as a message of `text/event-stream`."""
    head = f"id: {event.seq}\nevent: {event.kind}\ndata: "
    return head.encode() + event_json(event) + b"\n\n"
