"""The id that joins a request's answer, its log lines and its task's."""

import structlog


def current_request_id() -> str | None:
    found = structlog.contextvars.get_contextvars().get("request_id")
    return str(found) if found else None
