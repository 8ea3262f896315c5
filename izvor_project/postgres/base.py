"""Django's Postgres, in which times are read by psycopg's C code.

Django reads each through a regular expression in Python, to put a time zone on it. Ours is always
UTC, which Django sets on each connection and psycopg puts on by itself. A VM has seven times: with
a thousand rows they took as long as all else together (docs/performance.md).
"""

from __future__ import annotations

import datetime
from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.types.datetime import TimestamptzLoader


class DatabaseWrapper(base.DatabaseWrapper):
    def create_cursor(self, name: str | None = None) -> Any:
        cursor = super().create_cursor(name)
        if settings.USE_TZ and self.timezone == datetime.UTC:
            # Django asks the connection's loader for its zone, so it stays there; psycopg takes the
            # same class in C where it has it. A copy of a small dictionary for each cursor.
            cursor.adapters.register_loader("timestamptz", TimestamptzLoader)
        return cursor
