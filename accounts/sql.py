"""Statements written by hand, where they say more than a queryset, or say it sooner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction


def execute(
    sql: str, params: Sequence[Any] | Mapping[str, Any] = (), *, prepare: bool = False
) -> int:
    """How many rows it wrote; `prepare` is that of `rows`."""
    with _cursor(prepare=prepare) as cursor:
        cursor.execute(sql, params)
        return int(cursor.rowcount)


def after_commit(call: Callable[..., object], *args: Any, **more: Any) -> None:
    """Call it once the transaction is committed. What goes wrong then is logged, and takes nothing
    back."""
    # Not a partial: Django asks one that failed for its __qualname__.
    transaction.on_commit(lambda: call(*args, **more), robust=True)


def lock(name: str) -> None:
    """Be the only one with this name until the transaction is over; who has it is waited for."""
    ask("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [name], prepare=True)


def rows(
    sql: str, params: Sequence[Any] | Mapping[str, Any] = (), *, prepare: bool = False
) -> list[tuple[Any, ...]]:
    """`prepare` what is often asked in the same words and has one good plan, whatever the values:
    to plan takes Postgres longer than to answer."""
    return ask(sql, params, prepare=prepare)()


def ask(
    sql: str, params: Sequence[Any] | Mapping[str, Any] = (), *, prepare: bool = False
) -> Callable[[], list[tuple[Any, ...]]]:
    """As `rows`, which are had by calling what it returns: while `in_one_go`, it waits for them
    only then."""
    cursor = _cursor(prepare=prepare)
    cursor.execute(sql, params)

    def answer() -> list[tuple[Any, ...]]:
        with cursor:
            return cursor.fetchall()  # type: ignore[no-any-return]

    return answer


@contextmanager
def in_one_go() -> Iterator[None]:
    """Statements go to Postgres without waiting for those before: in a busy process each wait takes
    longer than the statement.

    Who reads an answer waits for all before it, with the locks they wait for, and raises what went
    wrong there; the end does so for the rest. What comes behind an error is not done. For use in a
    transaction, or for reading.
    """
    database: Any = connection
    database.ensure_connection()
    if database.connection.pgconn.pipeline_status:
        yield
        return
    with database.wrap_database_errors, database.connection.pipeline():
        yield


def _cursor(*, prepare: bool) -> Any:
    database: Any = connection
    return database.prepared_cursor() if prepare else database.cursor()
