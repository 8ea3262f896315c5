"""Short words over Redis, said once a transaction is committed.

A word that is lost changes nothing: those who wait for one look at the rows each second anyway.
"""

from __future__ import annotations

import time

import redis
import structlog
from django.conf import settings
from django.db import transaction
from redis.backoff import NoBackoff
from redis.retry import Retry

log = structlog.get_logger(__name__)

# Said when there are new events to be read.
EVENTS = f"{settings.REDIS_PREFIX}:events"
# After a failure nothing is tried for this long: a Redis that is away must not slow every commit.
PAUSE_S = 1.0
_redis = redis.Redis.from_url(
    settings.REDIS_URL,
    socket_timeout=2,
    socket_connect_timeout=2,
    # By itself it would try again for seconds.
    retry=Retry(NoBackoff(), 0),
)
_paused_until = 0.0


def say(channel: str, word: str = "") -> None:
    global _paused_until
    if time.monotonic() < _paused_until:
        return
    try:
        _redis.publish(channel, word)
    except redis.RedisError as error:
        _paused_until = time.monotonic() + PAUSE_S
        log.warning("word_not_said", channel=channel, error=str(error))


def say_on_commit(channel: str, word: str = "") -> None:
    transaction.on_commit(lambda: say(channel, word))
