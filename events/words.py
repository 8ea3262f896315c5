"""Short words over Redis, said once a transaction is committed.

A word that is lost changes nothing: those who wait for one look at the rows each second anyway.
"""

from __future__ import annotations

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.pause import Pause
from accounts.sql import after_commit

log = structlog.get_logger(__name__)

# Said when there are new events to be read.
EVENTS = f"{settings.REDIS_PREFIX}:events"
_redis = redis.Redis.from_url(
    settings.REDIS_URL,
    socket_timeout=2,
    socket_connect_timeout=2,
    # By itself it would try again for seconds.
    retry=Retry(NoBackoff(), 0),
)
_pause = Pause(1.0)


def say(channel: str, word: str = "") -> None:
    if _pause.is_on:
        return
    try:
        _redis.publish(channel, word)
    except redis.RedisError as error:
        _pause.begin()
        log.warning("word_not_said", channel=channel, error=str(error))


def say_on_commit(channel: str, word: str = "") -> None:
    after_commit(say, channel, word)
