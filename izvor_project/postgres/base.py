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
from psycopg.adapt import AdaptersMap
from psycopg.errors import FeatureNotSupported
from psycopg.types.datetime import TimestamptzLoader

# Nothing of ours waits for anybody in a transaction, but for Postgres.
IDLE_IN_TRANSACTION_S = 60


class PreparedCursor(psycopg.Cursor[tuple[Any, ...]]):
    """Values go beside the statement, and Postgres keeps it for this connection, planned."""

    def __init__(self, connection: psycopg.Connection[Any], adapters: AdaptersMap) -> None:
        self._shared = adapters
        super().__init__(connection)

    @property
    def adapters(self) -> AdaptersMap:
        """How values are read and written; psycopg gives each cursor a copy of its own."""
        return self._shared

    def execute(self, query: Any, params: Any = None, **options: Any) -> Self:
        try:
            return super().execute(query, params, prepare=True, **options)
        except FeatureNotSupported:
            # A migration has changed the type of what a kept statement gives. Outside a transaction
            # psycopg would keep it all the same, and fail with it for as long as it lives.
            self.connection.close()
            raise


class DatabaseWrapper(base.DatabaseWrapper):
    _shared_adapters: AdaptersMap | None = None

    def _configure_connection(self, connection: Any) -> bool:
        """Once for each, by Django; a pooler need not let it pass among the words that open one."""
        # What is prepared has one good plan; where a list of keys is among the values, Postgres
        # would plan it each time, for as long as to answer it.
        connection.execute("SET plan_cache_mode = force_generic_plan")
        # A process that is stopped in the midst of a transaction holds up all others.
        connection.execute(f"SET idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'")
        super()._configure_connection(connection)  # type: ignore[misc]
        return True

    def create_cursor(self, name: str | None = None) -> Any:
        cursor = super().create_cursor(name)
        self._read_times(cursor.adapters)
        return cursor

    def prepared_cursor(self) -> Any:
        """As `cursor`, for statements that are always the same but for their values."""
        self.ensure_connection()
        wrapper: Any = self
        with self.wrap_database_errors:
            if self._shared_adapters is None:
                self._shared_adapters = AdaptersMap(wrapper.connection.adapters)
                self._read_times(self._shared_adapters)
            return wrapper._prepare_cursor(
                PreparedCursor(wrapper.connection, self._shared_adapters)
            )

    def _read_times(self, adapters: AdaptersMap) -> None:
        if settings.USE_TZ and self.timezone == datetime.UTC:
            # Django asks the connection's loader for its zone, so it stays there; psycopg takes the
            # same class in C where it has it.
            adapters.register_loader("timestamptz", TimestamptzLoader)
