"""`Prefer: wait=SECONDS`: holds back a 202 until its task ends, without a thread or a connection.

The view has answered and let go of both. This layer awaits the worker's word over Redis; one look
at the database each second, for all waiting requests together, finds what a lost word would have
told.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis.asyncio
import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connection
from django.utils.encoding import force_str
from redis.exceptions import RedisError

from izvor_project.api.problems import CONTENT_TYPE, problem
from izvor_project.api.renderers import dumps
from operations.models import ENDED, SUCCEEDED, Operation
from operations.queue import CHANNEL
from operations.rest import AWAIT_HEADER, body_of_all, final_answer

log = structlog.get_logger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WAIT_MAX_S = 300
_PREFERENCE = re.compile(r"(?:^|[,;\s])wait=\"?(\d{1,6})\"?")
_AWAIT = AWAIT_HEADER.lower().encode()
# What a failed task's answer says, by its code; any other failure is a conflict with the cluster.
_STATUS = {
    "proxmox_unreachable": 503,
    "proxmox_unauthorized": 502,
    "proxmox_forbidden": 502,
    "proxmox_rejected": 502,
    "proxmox_error": 502,
    "internal_error": 500,
    "timed_out": 504,
    "outcome_unknown": 504,
}


# However many wait, their looks take this many threads and connections.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="waiting")


class Ends:
    """Who waits for the end of which operation, in this process."""

    def __init__(self) -> None:
        self._waiting: dict[uuid.UUID, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None

    async def wait(self, operation: uuid.UUID, seconds: float) -> None:
        """Returns when the operation has ended, or the time is over."""
        ended = asyncio.Event()
        self._waiting[operation].add(ended)
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen())
        try:
            # It may have ended before we were listening.
            if not await _ended([operation]):
                await asyncio.wait_for(ended.wait(), seconds)
        except TimeoutError:
            pass
        finally:
            self._waiting[operation].discard(ended)
            if not self._waiting[operation]:
                del self._waiting[operation]

    async def wait_for_all(self, operations: list[uuid.UUID], seconds: float) -> None:
        """Returns when all have ended, or the time is over."""
        await asyncio.gather(*(self.wait(operation, seconds) for operation in operations))

    def _tell(self, operation: uuid.UUID) -> None:
        for event in self._waiting.get(operation, ()):
            event.set()

    async def _listen(self) -> None:
        """Runs while anybody waits."""
        words = asyncio.create_task(self._hear())
        try:
            while self._waiting:
                await asyncio.sleep(1)
                for operation in await _ended(list(self._waiting)):
                    self._tell(operation)
        finally:
            words.cancel()

    async def _hear(self) -> None:
        """Ends by itself when nobody waits: redis-py may lose a cancellation while it reads."""
        client = redis.asyncio.Redis.from_url(settings.REDIS_URL)
        try:
            async with client.pubsub(ignore_subscribe_messages=True) as channel:
                await channel.subscribe(CHANNEL)
                while self._waiting:
                    message = await channel.get_message(timeout=1.0)
                    if message is not None:
                        self._tell(uuid.UUID(force_str(message["data"])))
        except RedisError as error:
            log.warning("waiting_without_redis", error=str(error))
        finally:
            await client.aclose()


async def _ended(operations: list[uuid.UUID]) -> list[uuid.UUID]:
    try:
        return await sync_to_async(_ended_now, thread_sensitive=False, executor=_threads)(
            operations
        )
    except DatabaseError as error:
        log.warning("waiting_without_database", error=str(error))
        return []


def _ended_now(operations: list[uuid.UUID]) -> list[uuid.UUID]:
    try:
        rows = Operation.objects.filter(uuid__in=operations, state__in=ENDED)
        return list(rows.values_list("uuid", flat=True))
    finally:
        connection.close()


class WaitLayer:
    """The ASGI application in front of Django's."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.ends = Ends()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        answer = _Answer(send)
        await self.app(scope, receive, answer.take)
        if not answer.operations:
            return
        seconds = preferred_wait(scope)
        if not seconds:
            await answer.send_as_is()
            return
        left = seconds - (time.monotonic() - started)
        if await ends_first(self.ends.wait_for_all(answer.operations, left), gone(receive)):
            await answer.send_end(seconds)


async def gone(receive: Receive) -> None:
    """Returns when the client has hung up."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def ends_first(wanted: Awaitable[None], other: Awaitable[None]) -> bool:
    """Await both until one ends, end the other; True if it was the wanted one."""
    tasks = [asyncio.ensure_future(wanted), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].done()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Answer:
    """Passes Django's answer on, except one whose task can be waited for: that one is held."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._body = b""
        self.operations: list[uuid.UUID] = []

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = {name.lower(): value for name, value in message["headers"]}
            if _AWAIT in headers:
                self.operations = [uuid.UUID(text) for text in headers[_AWAIT].decode().split(",")]
                self._start = message
                return
        if self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")

    async def send_as_is(self) -> None:
        await self._finish(202, self._body)

    async def send_end(self, seconds: int) -> None:
        applied = [(b"preference-applied", f"wait={seconds}".encode())]
        end = await sync_to_async(render_end, thread_sensitive=False, executor=_threads)(
            self.operations, self._request_id()
        )
        if end is None:
            await self._finish(202, self._body, applied)
        else:
            status, content_type, body = end
            await self._finish(status, body, applied, content_type)

    def _request_id(self) -> str:
        assert self._start is not None
        headers = {name.lower(): value for name, value in self._start["headers"]}
        return bytes(headers.get(b"x-request-id", b"")).decode()

    async def _finish(
        self,
        status: int,
        body: bytes,
        more: list[tuple[bytes, bytes]] | None = None,
        content_type: str = "",
    ) -> None:
        assert self._start is not None
        dropped = {_AWAIT, b"content-length"} | ({b"content-type"} if content_type else set())
        headers = [(k, v) for k, v in self._start["headers"] if k.lower() not in dropped]
        headers += [(b"content-length", str(len(body)).encode()), *(more or [])]
        if content_type:
            headers.append((b"content-type", content_type.encode()))
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def preferred_wait(scope: Scope) -> int:
    """Seconds of `Prefer: wait=…`, at most 300; 0 without one."""
    for name, value in scope["headers"]:
        if name == b"prefer":
            found = _PREFERENCE.search(value.decode("latin-1"))
            if found:
                return min(WAIT_MAX_S, int(found[1]))
    return 0


def render_end(operations: list[uuid.UUID], request_id: str) -> tuple[int, str, bytes] | None:
    """The final answer: the object, or the task's error as a problem; None while one goes on.

    Of a batch, the error is the first's that failed; the answer lists what came of each.
    """
    try:
        rows = Operation.objects.select_related("cluster", "project").filter(uuid__in=operations)
        ended = list(rows.order_by("pk"))
        if not all(operation.is_ended for operation in ended):
            return None
        failed = next((operation for operation in ended if operation.state != SUCCEEDED), None)
        if failed is None:
            status, body = final_answer(ended)
            content_type = "application/json"
        else:
            status = _STATUS.get(failed.error_code, 409)
            with structlog.contextvars.bound_contextvars(request_id=request_id):
                body = problem(status, failed.error_code, failed.error)
            body["task_id"] = str(failed.uuid)
            if len(ended) > 1:
                body |= body_of_all(ended)
            content_type = CONTENT_TYPE
        return status, content_type, dumps(body)
    finally:
        connection.close()
