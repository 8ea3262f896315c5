"""Every error of the API as problem+json (RFC 9457), with a code and the request's id."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import structlog
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from psycopg.errors import IdleInTransactionSessionTimeout
from rest_framework import exceptions
from rest_framework.response import Response

from accounts.crypto import Unsealable
from accounts.request_id import current_request_id
from operations.refusals import Refusal
from proxmox import OutcomeUnknown, ProxmoxError, TimedOut, Unreachable

log = structlog.get_logger(__name__)
CONTENT_TYPE = "application/problem+json"


def problem(
    status: int, code: str, detail: str, *, errors: list[dict[str, str]] | None = None
) -> dict[str, Any]:
    """`error` repeats `detail` for simple clients; bad input names its fields, if it has any."""
    if status == 400 and errors is None:
        errors = [{"field": "", "message": detail}]
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "error": detail,
        "request_id": current_request_id(),
    }
    if errors is not None:
        body["errors"] = errors
    return body


def exception_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's hook: what a view raised, as an answer. None leaves a bug to Django's 500."""
    status, code, detail, errors = sort_out(error)
    if status is None:
        return None
    headers = {}
    if isinstance(error, exceptions.APIException):
        if auth_header := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = auth_header
        if wait := getattr(error, "wait", None):
            headers["Retry-After"] = str(math.ceil(wait))
    return Response(
        problem(status, code, detail, errors=errors),
        status=status,
        headers=headers,
        content_type=CONTENT_TYPE,
    )


def sort_out(error: Exception) -> tuple[int | None, str, str, list[dict[str, str]] | None]:
    if isinstance(error, Refusal):
        errors = [{"field": error.field, "message": error.detail}] if error.field else None
        said = in_words(errors) if errors and error.status == 400 else error.detail
        return error.status, error.code, said, errors
    if isinstance(error, ProxmoxError):
        return proxmox_problem(error)
    if isinstance(error, Unsealable):
        return 503, "secret_unreadable", str(error), None
    if isinstance(error, exceptions.ValidationError):
        errors = flatten(error.detail)
        return 400, "invalid", in_words(errors), errors
    if isinstance(error, Http404):
        return 404, "not_found", "There is no such thing here.", None
    if isinstance(error, PermissionDenied):
        return 403, "not_allowed", "This is not allowed.", None
    if isinstance(error, exceptions.APIException):
        return error.status_code, CODES.get(error.status_code, "error"), str(error.detail), None
    was_ended = isinstance(error.__cause__, IdleInTransactionSessionTimeout)
    if was_ended or isinstance(error, OperationalError | InterfaceError):
        log.exception("database_unavailable")
        return 503, "database_unavailable", "Izvor's database cannot be reached now.", None
    return None, "", "", None


def in_words(errors: list[dict[str, str]]) -> str:
    return "; ".join(
        f"{e['field']}: {e['message']}" if e["field"] else e["message"] for e in errors
    )


CODES = {
    400: "malformed",
    401: "unauthorized",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "not_json",
    429: "throttled",
}


def proxmox_problem(error: ProxmoxError) -> tuple[int, str, str, None]:
    if isinstance(error, TimedOut):
        return 504, "proxmox_timed_out", f"Proxmox did not answer in time: {error}", None
    if isinstance(error, Unreachable | OutcomeUnknown):
        return 503, "proxmox_unreachable", f"Proxmox cannot be reached: {error}", None
    return 502, "proxmox_error", f"Proxmox answered: {error}", None


def flatten(detail: Any, path: str = "") -> list[dict[str, str]]:
    """DRF's nested messages as a list of {field, message}; fields as paths: cloud_init.ssh_keys."""
    if isinstance(detail, dict):
        found = []
        for name, inner in detail.items():
            if isinstance(name, int):
                found += flatten(inner, f"{path}[{name}]")
                continue
            step = "" if name == "non_field_errors" else str(name)
            found += flatten(inner, f"{path}.{step}" if path and step else path or step)
        return found
    if isinstance(detail, list):
        if any(isinstance(inner, dict | list) for inner in detail):
            return [
                entry
                for place, inner in enumerate(detail)
                for entry in flatten(inner, f"{path}[{place}]" if inner else path)
            ]
        return [{"field": path, "message": str(message)} for message in detail]
    return [{"field": path, "message": str(detail)}]


def problem_response(status: int, code: str, detail: str) -> JsonResponse:
    """For what happens before or beside DRF: middleware, unknown routes, crashes."""
    return JsonResponse(problem(status, code, detail), status=status, content_type=CONTENT_TYPE)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return problem_response(404, "not_found", f"There is nothing at {request.path}.")


def server_error(request: HttpRequest) -> HttpResponse:
    return problem_response(
        500,
        "internal_error",
        "Izvor failed to answer this; the log has the cause under this request id.",
    )


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return problem_response(400, "malformed", "This request cannot be read.")


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return problem_response(403, "not_allowed", "This is not allowed.")
