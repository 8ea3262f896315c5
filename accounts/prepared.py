"""Querysets whose SQL is put together once, and planned once for each connection.

Django puts every statement together anew, which takes it longer than Postgres takes to answer most
of ours. What is always asked alike is put together by its first use, with slots for what differs:

    _NAMED = Prepared(lambda: Size.objects.filter(name=Slot("name")))
    _NAMED(name="small")   # as list(Size.objects.filter(name="small"))

For what many requests need; everywhere else a queryset does. Values go to Postgres as they are, so
a None is equal to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Expression, QuerySet
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import TransactionManagementError

from accounts.sql import rows

T = TypeVar("T")


class Slot(Expression):
    """Stands for a value that each call brings, as Postgres knows it: a key, not a model."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def as_sql(self, compiler: SQLCompiler, connection: object) -> Any:
        return "%s", (self,)


def filled(wanted: Sequence[Any], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """A statement's parameters, with values where slots are."""
    return tuple(values[one.name] if isinstance(one, Slot) else one for one in wanted)


@dataclass
class _Asked:
    """What Django's iterables look at of a queryset; the compiler has its SQL already."""

    query: Any
    _fields: Any
    db: str = DEFAULT_DB_ALIAS
    _known_related_objects: dict[Any, Any] = field(default_factory=dict)


class Prepared(Generic[T]):
    """A queryset of models, without prefetching; `make` is called once."""

    def __init__(self, make: Callable[[], QuerySet[Any, T]]) -> None:
        self._make = make

    def __call__(self, **values: Any) -> list[T]:
        queryset, prepared, sql, wanted = self._put_together
        connection = connections[DEFAULT_DB_ALIAS]
        if queryset.query.select_for_update and connection.get_autocommit():
            # Django says so only when it puts the statement together.
            raise TransactionManagementError(
                "select_for_update holds nothing without a transaction."
            )
        params = filled(wanted, values)
        compiler: Any = copy(prepared)
        query = copy(queryset.query)
        # Each thread has a connection of its own.
        compiler.connection = connection
        compiler.execute_sql = lambda *_, **__: [rows(sql, params, prepare=True)]
        query.get_compiler = lambda *_, **__: compiler
        return list(queryset._iterable_class(_Asked(query, queryset._fields)))

    @cached_property
    def _put_together(self) -> tuple[Any, SQLCompiler, str, tuple[Any, ...]]:
        queryset: Any = self._make()
        compiler = queryset.query.get_compiler(using=DEFAULT_DB_ALIAS)
        sql, wanted = compiler.as_sql()
        compiler.connection = None
        return queryset, compiler, sql, wanted


class Columns:
    """Columns of a table's rows, and of what belongs to these, as tuples: no models are made."""

    def __init__(self, make: Callable[[], QuerySet[Any, tuple[Any, ...]]]) -> None:
        self._make = make

    def where(
        self, condition: str, params: Sequence[Any], *, prepare: bool = False
    ) -> list[tuple[Any, ...]]:
        """`condition` begins with a column of the table itself; `prepare` is that of `rows`."""
        sql, own = self._put_together
        return rows(f"{sql}.{condition}", [*own, *params], prepare=prepare)

    @cached_property
    def _put_together(self) -> tuple[str, tuple[Any, ...]]:
        queryset: Any = self._make().order_by()
        sql, params = queryset.query.sql_with_params()
        return f"{sql} WHERE {queryset.model._meta.db_table}", params
