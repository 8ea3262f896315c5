"""What our layers before Django share: they await words and times without a thread, and go to the
database for moments only, in a few threads for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import redis.asyncio
import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection
from django.utils.encoding import force_str
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]
P = ParamSpec("P")
T = TypeVar("T")

# However many wait, their looks take this many threads and connections.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="waiting")


async def in_thread(
    function: Callable[P, T],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Call what reads the database, in one of the few threads; its connection goes back at once."""
    return await in_thread_of(_threads, function, *args, **kwargs)


async def in_thread_of(
    threads: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    def called() -> T:
        try:
            return function(*args, **kwargs)
        finally:
            connection.close()

    return await sync_to_async(called, thread_sensitive=False, executor=threads)()


async def hear(
    channel: str, tell: Callable[[str], None], *, while_any: Callable[[], object]
) -> None:
    """Pass on each word of a channel for as long as anybody listens.

    Ends by itself when nobody does: redis-py may lose a cancellation while it reads. Without Redis
    it tries again each second; meanwhile those who wait look for themselves.
    """
    while while_any():
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL)
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as words:
                await words.subscribe(channel)
                while while_any():
                    message = await words.get_message(timeout=1.0)
                    if message is not None:
                        tell(force_str(message["data"]))
        except RedisError as error:
            log.warning("waiting_without_redis", error=str(error))
            await asyncio.sleep(1)
        finally:
            await client.aclose()


_held: list[Callable[[], None]] = []


def when_let_go(callback: Callable[[], None]) -> None:
    """To be called when the server ends, so that it has nobody to wait for."""
    _held.append(callback)


def let_go() -> None:
    for callback in _held:
        callback()


async def gone(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def ends_first(wanted: Awaitable[None], other: Awaitable[None]) -> bool:
    """Await both until one ends, end the other; True if it was the wanted one, whose error is
    raised."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done() and not tasks[0].cancelled():
            tasks[0].result()
        return tasks[0].done()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Answer:
    """Passes Django's answer on, except one that carries `header`: that one is held, with the
    header's value in `word`, for a layer that goes on with it."""

    def __init__(self, send: Send, header: str) -> None:
        self.send = send
        self.word: str | None = None
        self.status = 0
        self.body = b""
        self._header = header.lower().encode()
        self._headers: Headers = []

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message["headers"]}
            if self._header in headers:
                self.word = headers[self._header].decode()
                self.status = message["status"]
                self._headers = list(message["headers"])
                return
        if self.word is None:
            await self.send(message)
        else:
            self.body += message.get("body", b"")

    def header(self, name: bytes) -> str:
        return next((v.decode("latin-1") for k, v in self._headers if k.lower() == name), "")

    async def begin(self, status: int, more: Headers | None = None) -> None:
        """Send the head: Django's, without what only we read, and with `more` in its place."""
        more = more or []
        replaced = {self._header, b"content-length"} | {name for name, _ in more}
        kept = [(k, v) for k, v in self._headers if k.lower() not in replaced]
        await self.send({"type": "http.response.start", "status": status, "headers": kept + more})

    async def finish(self, status: int, body: bytes, more: Headers | None = None) -> None:
        """Send it all."""
        await self.begin(status, [*(more or []), (b"content-length", str(len(body)).encode())])
        await self.send({"type": "http.response.body", "body": body})
