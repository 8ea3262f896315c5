"""Statements written by hand, where they say more than a queryset, or say it sooner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import connection


def execute(sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> int:
    """How many rows it wrote."""
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return int(cursor.rowcount)


def lock(name: str) -> None:
    """Be the only one with this name until the transaction is over; who has it is waited for."""
    rows("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name])


def rows(sql: str, params: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()  # type: ignore[no-any-return]
