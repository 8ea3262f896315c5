"""How often somebody did something in this minute, counted in Redis, for all processes together.

Without Redis nobody is held up: that is said in the log, and tried again after a few seconds.
"""

from __future__ import annotations

import hashlib
import time

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

from accounts.pause import Pause

log = structlog.get_logger(__name__)

WINDOW_S = 60
_redis = redis.Redis.from_url(
    settings.REDIS_URL,
    socket_timeout=0.5,
    socket_connect_timeout=0.5,
    # By itself it would try again for seconds.
    retry=Retry(NoBackoff(), 0),
    decode_responses=True,
)
_pause = Pause(5.0)


def count(what: str, who: str) -> float | None:
    """Count one more of `what` for `who`. Seconds to wait if that was more than `settings.RATES`
    allows in a minute; None if it may go on."""
    return _counted(what, who, more=1)


def look(what: str, who: str) -> float | None:
    """The same without counting: would one more be too many?"""
    return _counted(what, who, more=0)


def _counted(what: str, who: str, *, more: int) -> float | None:
    limit = settings.RATES[what]
    if not limit or _pause.is_on:
        return None
    now = time.time()
    key = _key(what, who, int(now // WINDOW_S))
    try:
        with _redis.pipeline(transaction=False) as pipe:
            pipe.incrby(key, more)
            pipe.expire(key, 2 * WINDOW_S)
            total = int(pipe.execute()[0])
    except redis.RedisError as error:
        _pause.begin()
        log.warning("rates_without_redis", error=str(error))
        return None
    if total + (1 - more) <= limit:
        return None
    return WINDOW_S - now % WINDOW_S


def _key(what: str, who: str, window: int) -> str:
    # Digested: what people type into a login form need not lie in Redis.
    digest = hashlib.sha256(who.encode()).hexdigest()[:32]
    return f"{settings.REDIS_PREFIX}:rate:{what}:{digest}:{window}"
