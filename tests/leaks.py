"""Everything that Izvor has written anywhere, as text, to look for secrets in it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from django.conf import settings
from django.db import connection

from izvor_project import logs


@contextmanager
def everything_logged() -> Iterator[io.StringIO]:
    """Everything that goes to the log, from DEBUG on, as JSON."""
    root = logging.getLogger()
    before = root.handlers, root.level
    logs.configure("json", "DEBUG")
    text = io.StringIO()
    root.handlers[0].setStream(text)  # type: ignore[attr-defined]
    try:
        yield text
    finally:
        logs.configure(settings.IZVOR_LOG_FORMAT, "WARNING")
        root.handlers, root.level = before


def everything_stored() -> str:
    """Each column of each table, as text."""
    with connection.cursor() as cursor:
        texts = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT row_to_json(t)::text FROM "{table}" t')
            texts += [row[0] for row in cursor.fetchall()]
    return "\n".join(texts)


def everything_in_redis() -> str:
    """Each key with its value."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    texts = []
    for key in client.scan_iter("*"):
        kind = client.type(key)
        texts.append(repr(key))
        if kind == b"list":
            texts.append(repr(client.lrange(key, 0, -1)))
        elif kind == b"hash":
            texts.append(repr(client.hgetall(key)))
        elif kind == b"set":
            texts.append(repr(client.smembers(key)))
        elif kind == b"string":
            texts.append(repr(client.get(key)))
    client.close()
    return "".join(texts)
