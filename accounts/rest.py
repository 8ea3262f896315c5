"""How resources of the API are read and listed: strict input, keyset pages, the caller first."""

from __future__ import annotations

import base64
import binascii
import json
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Any, ClassVar
from urllib.parse import urlencode

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.actors import Actor, anybody, sight_of, slots_of
from accounts.prepared import Columns, filled
from accounts.sql import rows

LIMIT_MAX = 1000
# Filters can be anything: not more than so many are remembered.
MOST_COUNTS = 1000


def is_storable(text: str) -> bool:
    """Postgres holds no NUL, and neither it nor UTF-8 half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= char <= "\udfff" for char in text)


def as_uuid(text: str) -> uuid.UUID | None:
    """None, which is nobody's, for what is none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def as_vmid(text: str) -> int | None:
    """None for what has not the form of one: three to nine digits."""
    return int(text) if re.fullmatch(r"[0-9]{3,9}", text) else None


class StrictSerializer(serializers.Serializer[Any]):
    """A request body in which an unknown field is an error: a typo is never ignored."""

    default_error_messages: ClassVar = {"null": "Give a JSON object."}

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


class _Serializers(threading.local):
    """Each thread's own: to copy a serializer's fields takes DRF longer than to check a body."""

    def __init__(self) -> None:
        self.made: dict[type[StrictSerializer], StrictSerializer] = {}


_serializers = _Serializers()


def parse(serializer: type[StrictSerializer], request: Request) -> dict[str, Any]:
    """The checked body of a request. Raises ValidationError, naming each field."""
    made = _serializers.made
    if serializer not in made:
        made[serializer] = serializer()
    return dict(made[serializer].run_validation(request.data))


def public_origin(request: Request | HttpRequest) -> str:
    """How the caller reaches us, `https://host` where a proxy speaks TLS for us and
    IZVOR_TRUSTED_ORIGINS names it."""
    host = request.get_host()
    is_tls = request.is_secure() or f"https://{host}" in settings.CSRF_TRUSTED_ORIGINS
    return f"{'https' if is_tls else 'http'}://{host}"


PAGING = frozenset({"limit", "cursor"})


def refuse_unknown_params(
    request: Request, known: Set[str], *, lists: Set[str] = frozenset()
) -> None:
    """A parameter that does not exist is an error: without it the request would mean another thing,
    a filter's typo list everything, a `dry_run` make a VM. So is one that is given twice, unless it
    is of the `lists` among the known: one of its values would be ignored."""
    errors = {}
    for name, values in sorted(request.query_params.lists()):
        if name not in known:
            errors[name] = ["There is no such parameter."]
        elif len(values) > 1 and name not in lists:
            errors[name] = ["Give it once."]
        elif not all(is_storable(value) for value in values):
            errors[name] = ["This text holds a NUL."]
    if errors:
        raise ValidationError(errors)


@dataclass(frozen=True)
class Keys:
    """The SQL that finds the keys of a list: put together once, for its page and its count."""

    sql: str
    params: tuple[Any, ...]
    prepare: bool = False

    def rows_of(self, columns: Columns) -> list[tuple[Any, ...]]:
        return columns.where(f"id = ANY(ARRAY({self.sql}))", self.params, prepare=self.prepare)

    def page(
        self, columns: Columns, after: int | None, most: int, *, backwards: bool, with_count: bool
    ) -> list[tuple[Any, ...]]:
        """At most so many of their rows, in the order of a list, from `after` on. The key is the
        first of the columns; behind the last stands how many there are in all, or None."""
        order, params = "DESC" if backwards else "ASC", self.params
        # Of constants and of Django's own SQL.
        found = f"SELECT pk FROM ({self.sql}) AS found (pk)"  # noqa: S608
        if after is not None:
            found, params = f"{found} WHERE pk {'<' if backwards else '>'} %s", (*params, after)
        # In the text: a plan for any limit is none for a page.
        found = f"{found} ORDER BY pk {order} LIMIT {most:d}"
        sql, own = columns.sql(f"id = ANY(ARRAY({found}))")
        count, counted = (f"({self._count})", self.params) if with_count else ("NULL", ())
        sql = f"SELECT page.*, {count} FROM ({sql}) AS page ORDER BY 1 {order}"  # noqa: S608
        return rows(sql, (*counted, *own, *params), prepare=self.prepare)

    def count(self) -> int:
        ((count,),) = rows(self._count, self.params, prepare=self.prepare)
        return int(count)

    @property
    def _count(self) -> str:
        return f"SELECT count(*) FROM ({self.sql}) AS found"  # noqa: S608


class Listed:
    """A list that is long and often asked for: what is in it, by the names of the filters asked
    for, with a slot for the value of each. Its SQL is put together once for each such set."""

    def __init__(self, make: Callable[[Actor, Set[str]], QuerySet[Any]]) -> None:
        self._make = make
        self._made: dict[tuple[object, ...], tuple[str, tuple[Any, ...]]] = {}

    def keys(self, actor: Actor, values: Mapping[str, Any], *, prepare: bool = False) -> Keys:
        sight = sight_of(actor)
        kind = (*sight.values(), frozenset(values))
        if kind not in self._made:
            seen = self._make(anybody(**sight), frozenset(values))
            self._made[kind] = seen.order_by().values("pk").query.sql_with_params()
        sql, wanted = self._made[kind]
        return Keys(sql, filled(wanted, {**values, **slots_of(actor)}), prepare=prepare)


def page_of(
    request: Request, queryset: QuerySet[Any], *, order: str = "pk"
) -> tuple[list[Any], dict[str, Any]]:
    """One keyset page: its rows, and `count` and `next` of the list it belongs to.

    Pages are cut by `order` (a unique field, "-" for descending), so rows that come or go between
    two requests shift nothing.
    """
    limit, after = _limit(request), _cursor(request, is_number)
    field, backwards = order.removeprefix("-"), order.startswith("-")
    found = queryset.order_by(order)
    if after is not None:
        found = found.filter(**{f"{field}__{'lt' if backwards else 'gt'}": after})
    keyed = [(getattr(row, field), row) for row in found[: limit + 1]]
    return _cut(request, keyed, limit, after, partial(count_of, request, queryset.count))


def page_by_keys(
    request: Request,
    listed: Listed,
    values: Mapping[str, Any],
    columns: Columns,
    shown: Callable[[Sequence[Any]], Any],
    *,
    backwards: bool = False,
) -> tuple[list[Any], dict[str, Any]]:
    """As `page_of`, in the order of the primary keys, as one statement; `shown` makes of a row of
    the `columns`, which begin with the key, what the list shows."""
    limit, after = _limit(request), _cursor(request, is_number)
    # Without filters one plan is good for all.
    keys = listed.keys(actor_of(request), values, prepare=not values)
    kept = kept_count(request)
    found = keys.page(columns, after, limit + 1, backwards=backwards, with_count=kept is None)

    def count() -> int:
        if kept is not None:
            return kept
        return keep_count(request, found[0][-1] if found else keys.count())

    cut, page = _cut(request, [(row[0], row) for row in found], limit, after, count)
    return [shown(row[:-1]) for row in cut], page


def page_of_list(
    request: Request, found: Iterable[Any], place: Callable[[Any], list[str]]
) -> tuple[list[Any], dict[str, Any]]:
    """As `page_of`, of what is at hand as a whole; its order is that of the texts which `place`
    gives for each, for no two the same."""
    limit, after = _limit(request), _cursor(request, is_place)
    keyed = sorted(((place(one), one) for one in found), key=itemgetter(0))
    following = [pair for pair in keyed if after is None or pair[0] > after]
    return _cut(request, following[: limit + 1], limit, after, lambda: len(keyed))


def _cut(
    request: Request,
    keyed: list[tuple[Any, Any]],
    limit: int,
    after: Any,
    count: Callable[[], int],
) -> tuple[list[Any], dict[str, Any]]:
    """Of one row more than a page has: whether another page follows, and from where."""
    more, following = len(keyed) > limit, None
    keyed = keyed[:limit]
    if more:
        asked = dict(request.query_params.lists())
        # What a page was looked at for, the next one need not be.
        asked.pop("refresh", None)
        query = urlencode(asked | {"cursor": _encode(keyed[-1][0])}, doseq=True)
        following = f"{public_origin(request)}{request.path}?{query}"
    # A first page that holds all of them has counted them already.
    is_part = more or after is not None
    counted = count() if is_part else len(keyed)
    return [row for _, row in keyed], {"count": counted, "next": following}


_counts: dict[tuple[object, ...], tuple[float, int]] = {}


def count_of(request: Request, count_them: Callable[[], int]) -> int:
    """Exact where there are few. Many are counted by this process once in a few seconds: Postgres
    goes through all of them, which would cost more than the page."""
    kept = kept_count(request)
    return keep_count(request, count_them()) if kept is None else kept


def kept_count(request: Request) -> int | None:
    """Of the list that this request asks for; None where it is to be counted."""
    counted_at, count = _counts.get(_list_of(request), (0.0, 0))
    is_fresh = count and time.monotonic() - counted_at < settings.COUNTS["kept_s"]
    return count if is_fresh else None


def keep_count(request: Request, count: int) -> int:
    """The same count, kept where it is of many."""
    if count >= settings.COUNTS["many"]:
        if len(_counts) > MOST_COUNTS:
            _counts.clear()
        _counts[_list_of(request)] = (time.monotonic(), count)
    return count


def _list_of(request: Request) -> tuple[object, ...]:
    """What two requests have in common that ask for pages of the same list."""
    actor, asked = actor_of(request), request.query_params
    project = None if actor.is_operator else actor.project and actor.project.pk
    filters = tuple((name, *asked.getlist(name)) for name in sorted(asked) if name not in PAGING)
    return (actor.is_operator, project, request.path, filters)


def listing(key: str, shown: list[Any], page: dict[str, Any]) -> Response:
    return Response({key: shown, **page})


def _limit(request: Request) -> int:
    raw = request.query_params.get("limit", str(LIMIT_MAX))
    if not re.fullmatch(r"[0-9]{1,9}", raw) or not 1 <= int(raw) <= LIMIT_MAX:
        raise ValidationError({"limit": [f"Give a whole number from 1 to {LIMIT_MAX}."]})
    return int(raw)


def _encode(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def is_number(value: Any) -> bool:
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and -(2**63) <= value < 2**63


def is_place(value: Any) -> bool:
    return isinstance(value, list) and value != [] and all(isinstance(one, str) for one in value)


def _cursor(request: Request, is_ours: Callable[[Any], bool]) -> Any:
    raw = request.query_params.get("cursor")
    if not raw:
        return None
    try:
        value = json.loads(base64.urlsafe_b64decode(raw + "=" * (-len(raw) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        value = None
    if not is_ours(value):
        raise ValidationError({"cursor": ["This is not a cursor of ours; take it from `next`."]})
    return value
