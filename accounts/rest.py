"""How resources of the API are read and listed: strict input, keyset pages, the caller first."""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Sequence, Set
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actors import Actor

LIMIT_MAX = 1000
# Filters can be anything: not more than so many are remembered.
MOST_COUNTS = 1000


def is_storable(text: str) -> bool:
    """Postgres holds no NUL, and neither it nor UTF-8 half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


class StrictSerializer(serializers.Serializer[Any]):
    """A request body in which an unknown field is an error: a typo is never ignored."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict):
            unknown = sorted(set(data) - set(self.fields))
            if unknown:
                raise ValidationError({str(name): ["There is no such field."] for name in unknown})
        return super().to_internal_value(data)


class NothingSerializer(StrictSerializer):
    """An empty body, or {}."""


def actor_of(request: Request) -> Actor:
    actor = request.user
    assert isinstance(actor, Actor), "authentication gives an Actor"
    return actor


def parse(serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
    """The checked body of a request. Raises ValidationError, naming each field."""
    checked = serializer(data=request.data, context={"request": request})
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)


def public_origin(request: Request | HttpRequest) -> str:
    """How the caller reaches us, `https://host` where a proxy speaks TLS for us and
    IZVOR_TRUSTED_ORIGINS names it."""
    host = request.get_host()
    is_tls = request.is_secure() or f"https://{host}" in settings.CSRF_TRUSTED_ORIGINS
    return f"{'https' if is_tls else 'http'}://{host}"


PAGING = frozenset({"limit", "cursor"})


def refuse_unknown_params(request: Request, known: Set[str]) -> None:
    """A parameter that does not exist is an error: without it the request would mean another thing,
    a filter's typo list everything, a `dry_run` make a VM."""
    errors = {}
    for name in sorted(request.query_params):
        if name not in known:
            errors[name] = ["There is no such parameter."]
        elif not all(is_storable(value) for value in request.query_params.getlist(name)):
            errors[name] = ["This text holds a NUL."]
    if errors:
        raise ValidationError(errors)


def page_of(
    request: Request, queryset: QuerySet[Any], *, order: str = "pk", columns: Sequence[str] = ()
) -> tuple[list[Any], dict[str, Any]]:
    """One keyset page: its rows, and `count` and `next` of the list it belongs to.

    Pages are cut by `order` (a unique field, "-" for descending), so rows that come or go between
    two requests shift nothing. With `columns` the rows are tuples of these instead of models; the
    first is the order's.
    """
    limit, after = _limit(request), _cursor(request)
    field, backwards = order.removeprefix("-"), order.startswith("-")
    rows = queryset.order_by(order)
    if after is not None:
        rows = rows.filter(**{f"{field}__{'lt' if backwards else 'gt'}": after})
    found = list((rows.values_list(*columns) if columns else rows)[: limit + 1])
    more = len(found) > limit
    found = found[:limit]
    following = None
    if more:
        params = request.query_params.copy()
        last = found[-1]
        params["cursor"] = _encode(last[0] if columns else getattr(last, field))
        following = request.build_absolute_uri(f"{request.path}?{params.urlencode()}")
    # A first page that holds all of them has counted them already.
    is_part = more or after is not None
    count = count_of(request, queryset) if is_part else len(found)
    return found, {"count": count, "next": following}


_counts: dict[tuple[object, ...], tuple[float, int]] = {}


def count_of(request: Request, queryset: QuerySet[Any]) -> int:
    """Exact where there are few. Many are counted by this process once in a few seconds: Postgres
    goes through all of them, which would cost more than the page."""
    actor, asked = actor_of(request), request.query_params
    project = None if actor.is_operator else actor.project and actor.project.pk
    filters = tuple((name, *asked.getlist(name)) for name in sorted(asked) if name not in PAGING)
    key = (actor.is_operator, project, request.path, filters)
    now = time.monotonic()
    counted_at, count = _counts.get(key, (0.0, 0))
    if count and now - counted_at < settings.COUNTS["kept_s"]:
        return count
    count = queryset.count()
    if count >= settings.COUNTS["many"]:
        if len(_counts) > MOST_COUNTS:
            _counts.clear()
        _counts[key] = (now, count)
    else:
        _counts.pop(key, None)
    return count


def listing(key: str, rows: list[Any], page: dict[str, Any]) -> Response:
    return Response({key: rows, **page})


def _limit(request: Request) -> int:
    raw = request.query_params.get("limit", str(LIMIT_MAX))
    if not raw.isascii() or not raw.isdigit() or not 1 <= int(raw[:9]) <= LIMIT_MAX:
        raise ValidationError({"limit": [f"Give a whole number from 1 to {LIMIT_MAX}."]})
    return int(raw)


def _encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _cursor(request: Request) -> Any:
    raw = request.query_params.get("cursor")
    if not raw:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        value = None
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValidationError({"cursor": ["This is not a cursor of ours; take it from `next`."]})
    return value
