"""Django's Postgres, in which times are read by psycopg's C code, and statements can be prepared.

Django reads each through a regular expression in Python, to put a time zone on it. Ours is always
UTC, which Django sets on each connection and psycopg puts on by itself. A VM has seven times: with
a thousand rows they took as long as all else together (docs/performance.md).
"""

from __future__ import annotations

import datetime
from typing import Any, Self

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.types.datetime import TimestamptzLoader


class PreparedCursor(psycopg.Cursor[tuple[Any, ...]]):
    """Values go beside the statement, and Postgres keeps it for this connection, planned."""

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        return super().execute(query, params, prepare=True, **options)


class DatabaseWrapper(base.DatabaseWrapper):
    def create_cursor(self, name: str | None = None) -> Any:
        return self._reading_times(super().create_cursor(name))

    def prepared_cursor(self) -> Any:
        """As `cursor`, for statements that are always the same but for their values."""
        self.ensure_connection()
        wrapper: Any = self
        with self.wrap_database_errors:
            cursor = self._reading_times(PreparedCursor(wrapper.connection))
            return wrapper._prepare_cursor(cursor)

    def _reading_times(self, cursor: Any) -> Any:
        if settings.USE_TZ and self.timezone == datetime.UTC:
            # Django asks the connection's loader for its zone, so it stays there; psycopg takes the
            # same class in C where it has it. A copy of a small dictionary for each cursor.
            cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        return cursor
