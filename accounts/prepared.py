"""Statements whose SQL is put together once, and planned once for each connection.

Django puts every statement together anew, which takes it longer than Postgres takes to answer most
of ours. What is always asked alike is put together by its first use, with slots for what differs:

    _NAMED = Prepared(lambda: Size.objects.filter(name=Slot("name")))
    _NAMED(name="small")   # as list(Size.objects.filter(name="small"))

`Insert`, `Update` and `UpdateEach` are for writing. For what many requests and turns need;
everywhere else a queryset does. Values of slots go to Postgres as they are, so a None is equal to
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import orjson
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Expression, Model, QuerySet
from django.db.models.query import ModelIterable, get_related_populators
from django.db.models.sql.compiler import SQLCompiler
from django.db.transaction import TransactionManagementError

from accounts.sql import ask, execute

T = TypeVar("T")
M = TypeVar("M", bound=Model)
# A row, and the connection that it came from.
Reader = Callable[[Sequence[Any], object], Any]


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


class Prepared(Generic[T]):
    """A queryset of models, without prefetching; `make` is called once."""

    def __init__(self, make: Callable[[], QuerySet[Any, T]]) -> None:
        self._make = make

    def __call__(self, **values: Any) -> list[T]:
        return self.ask(**values)()

    def ask(self, **values: Any) -> Callable[[], list[T]]:
        """As `accounts.sql.ask`."""
        sql, wanted, is_locking, read = self._put_together
        connection = connections[DEFAULT_DB_ALIAS]
        if is_locking and connection.get_autocommit():
            # Django says so only when it puts the statement together.
            raise TransactionManagementError(
                "select_for_update holds nothing without a transaction."
            )
        answer = ask(sql, filled(wanted, values), prepare=True)
        return lambda: [read(row, connection) for row in answer()]

    def first(self, **values: Any) -> T | None:
        """For what is one or none; it does not limit the statement."""
        return next(iter(self(**values)), None)

    @cached_property
    def _put_together(self) -> tuple[str, tuple[Any, ...], bool, Reader]:
        queryset: Any = self._make()
        assert issubclass(queryset._iterable_class, ModelIterable), "it makes models"
        query = queryset.query
        compiler = query.get_compiler(using=DEFAULT_DB_ALIAS)
        sql, wanted = compiler.as_sql()
        return sql, wanted, query.select_for_update, reader_of(compiler)


def reader_of(compiler: Any) -> Reader:
    """What makes a model of a row, with its related models: Django's ModelIterable finds it out
    anew for each queryset, which takes it longer than to make one model."""
    select, of_model = compiler.select, compiler.klass_info
    first, end = of_model["select_fields"][0], of_model["select_fields"][-1] + 1
    names = [column.target.attname for column, *_ in select[first:end]]
    # The stubs know the next Django's.
    related = get_related_populators(of_model, select, DEFAULT_DB_ALIAS)  # type: ignore[call-arg]
    converters = compiler.get_converters([column for column, *_ in select])

    def read(row: Sequence[Any], connection: object) -> Any:
        values = list(row)
        for place, (convert, expression) in converters.items():
            for one in convert:
                values[place] = one(values[place], expression, connection)
        made = of_model["model"].from_db(DEFAULT_DB_ALIAS, names, values[first:end])
        for one in related:
            one.populate(values, made)
        for name, place in compiler.annotation_col_map.items():
            setattr(made, name, values[place])
        return made

    return read


KEYS = "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)"


class Insert(Generic[M]):
    """Writes new rows of a table by one statement, however many they are; else as `bulk_create`.
    Who has a key already keeps it.

    They go to Postgres as one JSON. Where it has to reckon a column's value, the column's type in
    the JSON and the SQL are told here, and the values with each call:

        _INSERT = Insert(Task, due_at=("float", "now() + make_interval(secs => due_at)"))
        _INSERT(tasks, due_at=[5.0 for _ in tasks])
    """

    def __init__(self, model: type[M], **reckoned: tuple[str, str]) -> None:
        self._model = model
        self._reckoned = reckoned

    def __call__(self, new: Sequence[M], **given: Sequence[Any]) -> None:
        self.ask(new, **given)()

    def ask(self, new: Sequence[M], **given: Sequence[Any]) -> Callable[[], None]:
        """As `accounts.sql.ask`; until it is called they get no keys."""
        sql, own, returned = self._put_together
        written = [{f.column: f.pre_save(one, True) for f in own} for one in new]
        for name, values in given.items():
            for row, value in zip(written, values, strict=True):
                row[name] = value
        answer = ask(sql, [as_json(written)], prepare=True)

        def read() -> None:
            for one, got in zip(new, answer(), strict=True):
                one._state.adding, one._state.db = False, DEFAULT_DB_ALIAS
                for field, value in zip(returned, got, strict=True):
                    setattr(one, field.attname, value)

        return read

    def ask_keys(self, count: int) -> Callable[[], list[int]]:
        """Keys for rows to come, as `accounts.sql.ask`: who names them need not wait until they are
        written."""
        table, key = self._model._meta.db_table, self._model._meta.pk.column
        answer = ask(KEYS, [table, key, count], prepare=True)
        return lambda: [key for (key,) in answer()]

    @cached_property
    def _put_together(self) -> tuple[str, list[Any], list[Any]]:
        meta: Any = self._model._meta
        connection = connections[DEFAULT_DB_ALIAS]
        quote = connection.ops.quote_name
        columns = [f for f in meta.concrete_fields if not f.generated]
        types = {f.column: (f.db_type(connection), quote(f.column)) for f in columns}
        table, key = quote(meta.db_table), meta.pk.column
        kind, own_key = types[key]
        next_key = f"nextval(pg_get_serial_sequence('{table}', '{key}'))"
        types[key] = (kind, f"coalesce({own_key}, {next_key})")
        types |= self._reckoned
        names = ", ".join(map(quote, types))
        shape = shape_of({name: kind for name, (kind, _) in types.items()})
        values = ", ".join(value for _, value in types.values())
        returned = ", ".join(quote(f.column) for f in meta.db_returning_fields)
        # Of names that Django knows, and of constants.
        chosen = f"SELECT {values} FROM {shape}"  # noqa: S608
        sql = f"INSERT INTO {table} ({names}) {chosen} RETURNING {returned}"
        own = [f for f in columns if f.column not in self._reckoned]
        return sql, own, meta.db_returning_fields


class Update:
    """Changes columns of rows of a table; put together once for each set of columns.

    `where` names what each call brings: `Update(Task, "id = %(id)s")({"state": "ended"}, id=5)`.
    """

    def __init__(self, model: type[Model], where: str) -> None:
        self._model = model
        self._where = where
        self._made: dict[tuple[str, ...], tuple[str, list[Any]]] = {}

    def __call__(self, values: Mapping[str, Any], **where: Any) -> int:
        """How many rows it changed."""
        names = tuple(values)
        if names not in self._made:
            self._made[names] = self._put_together(names)
        sql, fields = self._made[names]
        connection = connections[DEFAULT_DB_ALIAS]
        given = {f.name: f.get_db_prep_save(values[f.name], connection) for f in fields}
        return execute(sql, given | where, prepare=True)

    def _put_together(self, names: Sequence[str]) -> tuple[str, list[Any]]:
        meta: Any = self._model._meta
        quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
        fields = [meta.get_field(name) for name in names]
        changed = ", ".join(f"{quote(f.column)} = %({f.name})s" for f in fields)
        # Of names that Django knows, and of constants.
        return f"UPDATE {quote(meta.db_table)} SET {changed} WHERE {self._where}", fields  # noqa: S608


class UpdateEach(Generic[M]):
    """Writes columns of many rows as each has them, by one statement; else as `bulk_update`, which
    puts a branch into it for each row and column."""

    def __init__(self, model: type[M]) -> None:
        self._model = model

    def __call__(self, changed: Sequence[M], names: Iterable[str]) -> None:
        meta: Any = self._model._meta
        connection = connections[DEFAULT_DB_ALIAS]
        quote = connection.ops.quote_name
        fields = [meta.pk, *(meta.get_field(name) for name in names)]
        written = [{f.column: getattr(one, f.attname) for f in fields} for one in changed]
        shape = shape_of({f.column: f.db_type(connection) for f in fields})
        values = ", ".join(f"{quote(f.column)} = new.{quote(f.column)}" for f in fields[1:])
        table, key = quote(meta.db_table), quote(meta.pk.column)
        # Of names that Django knows.
        sql = f"UPDATE {table} SET {values} FROM {shape} WHERE {table}.{key} = new.{key}"  # noqa: S608
        execute(sql, [as_json(written)])


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps(rows, option=orjson.OPT_NON_STR_KEYS).decode()


def shape_of(types: Mapping[str, str]) -> str:
    """Rows called `new`, from one JSON, with the columns' types."""
    quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
    columns = ", ".join(f"{quote(name)} {kind}" for name, kind in types.items())
    return f"jsonb_to_recordset(%s) AS new ({columns})"


class Columns:
    """Columns of a table's rows, and of what belongs to these, as tuples: no models are made."""

    def __init__(self, make: Callable[[], QuerySet[Any, tuple[Any, ...]]]) -> None:
        self._make = make

    def where(
        self, condition: str, params: Sequence[Any], *, prepare: bool = False
    ) -> list[tuple[Any, ...]]:
        """`prepare` is that of `rows`."""
        return self.ask(condition, params, prepare=prepare)()

    def ask(
        self, condition: str, params: Sequence[Any], *, prepare: bool = False
    ) -> Callable[[], list[tuple[Any, ...]]]:
        """As `accounts.sql.ask`."""
        sql, own = self.sql(condition)
        return ask(sql, [*own, *params], prepare=prepare)

    def sql(self, condition: str) -> tuple[str, tuple[Any, ...]]:
        """With the parameters that go before those of `condition`, which begins with a column of
        the table itself."""
        sql, own = self._put_together
        return f"{sql}.{condition}", own

    @cached_property
    def _put_together(self) -> tuple[str, tuple[Any, ...]]:
        queryset: Any = self._make().order_by()
        sql, params = queryset.query.sql_with_params()
        return f"{sql} WHERE {queryset.model._meta.db_table}", params
