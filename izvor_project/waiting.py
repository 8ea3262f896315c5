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

import structlog
from django.db import DatabaseError

from izvor_project.api.problems import CONTENT_TYPE, problem
from izvor_project.api.renderers import dumps
from izvor_project.listening import (
    Answer,
    App,
    Headers,
    Receive,
    Scope,
    Send,
    ends_first,
    gone,
    hear,
    in_thread,
    when_let_go,
)
from operations.models import ENDED, SUCCEEDED, Operation
from operations.queue import CHANNEL
from operations.rest import AWAIT_HEADER, body_of_all, final_answer

log = structlog.get_logger(__name__)

WAIT_MAX_S = 300
_PREFERENCE = re.compile(r"(?:^|[,;\s])wait=\"?(\d{1,6})\"?")
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


class Ends:
    """Who waits for the end of which operation, in this process."""

    def __init__(self) -> None:
        self._waiting: dict[uuid.UUID, set[asyncio.Event]] = defaultdict(set)
        self._listener: asyncio.Task[None] | None = None

    async def wait(self, operations: list[uuid.UUID], seconds: float) -> None:
        """Returns when all have ended, or the time is over."""
        ends = {operation: asyncio.Event() for operation in operations}
        for operation, end in ends.items():
            self._waiting[operation].add(end)
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen())
        try:
            # Some may have ended before we were listening.
            for operation in await _ended(operations):
                ends[operation].set()
            async with asyncio.timeout(seconds):
                for end in ends.values():
                    await end.wait()
        except TimeoutError:
            pass
        finally:
            for operation, end in ends.items():
                self._waiting[operation].discard(end)
                if not self._waiting[operation]:
                    del self._waiting[operation]

    def close(self) -> None:
        """Whoever waits is answered with how it is now."""
        for operation in self._waiting:
            self._tell(operation)

    def _tell(self, operation: uuid.UUID) -> None:
        for event in self._waiting.get(operation, ()):
            event.set()

    async def _listen(self) -> None:
        """Runs while anybody waits."""
        words = asyncio.create_task(
            hear(CHANNEL, lambda word: self._tell(uuid.UUID(word)), while_any=self._anybody)
        )
        try:
            while self._waiting:
                await asyncio.sleep(1)
                for operation in await _ended(list(self._waiting)):
                    self._tell(operation)
        finally:
            words.cancel()

    def _anybody(self) -> bool:
        return bool(self._waiting)


async def _ended(operations: list[uuid.UUID]) -> list[uuid.UUID]:
    try:
        return await in_thread(_ended_now, operations)
    except DatabaseError as error:
        log.warning("waiting_without_database", error=str(error))
        return []


def _ended_now(operations: list[uuid.UUID]) -> list[uuid.UUID]:
    rows = Operation.objects.filter(uuid__in=operations, state__in=ENDED)
    return list(rows.values_list("uuid", flat=True))


class WaitLayer:
    """The ASGI application in front of Django's."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.ends = Ends()
        when_let_go(self.ends.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.monotonic()
        answer = Answer(send, AWAIT_HEADER)
        await self.app(scope, receive, answer.take)
        if answer.word is None:
            return
        wanted, *texts = answer.word.split(",")
        operations = [uuid.UUID(text) for text in texts]
        seconds = preferred_wait(scope)
        if not seconds:
            await answer.finish(answer.status, answer.body)
            return
        left = seconds - (time.monotonic() - started)
        if await ends_first(self.ends.wait(operations, left), gone(receive)):
            await send_end(answer, operations, wanted, seconds)


async def send_end(answer: Answer, operations: list[uuid.UUID], wanted: str, seconds: int) -> None:
    """The tasks' end in place of the 202, or that one when the time is over."""
    applied: Headers = [(b"preference-applied", f"wait={seconds}".encode())]
    end = await in_thread(render_end, operations, wanted, answer.header(b"x-request-id"))
    if end is None:
        await answer.finish(answer.status, answer.body, applied)
    else:
        status, headers, body = end
        await answer.finish(status, body, [*applied, *headers])


def preferred_wait(scope: Scope) -> int:
    """Seconds of `Prefer: wait=…`, at most 300; 0 without one."""
    for name, value in scope["headers"]:
        if name == b"prefer":
            found = _PREFERENCE.search(value.decode("latin-1"))
            if found:
                return min(WAIT_MAX_S, int(found[1]))
    return 0


def render_end(
    operations: list[uuid.UUID], wanted: str, request_id: str
) -> tuple[int, Headers, bytes] | None:
    """The final answer: the object, or the task's error as a problem; None while one goes on.

    Of a batch, the error is the first's that failed; the answer lists what came of each.
    """
    rows = Operation.objects.select_related("cluster", "project").filter(uuid__in=operations)
    ended = list(rows.order_by("pk"))
    if not all(operation.is_ended for operation in ended):
        return None
    failed = next((operation for operation in ended if operation.state != wanted), None)
    location = ""
    if failed is None:
        status, body, location = final_answer(ended)
        content_type = "application/json"
    else:
        code, error = failed.error_code, failed.error
        if failed.state == SUCCEEDED:
            code = "not_cancelable"
            error = f"The cancel came too late: task {failed.uuid} has succeeded."
        status = _STATUS.get(code, 409)
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            body = problem(status, code, error)
        body["task_id"] = str(failed.uuid)
        if len(ended) > 1:
            body |= body_of_all(ended)
        content_type = CONTENT_TYPE
    headers: Headers = [(b"content-type", content_type.encode())]
    if location:
        headers.append((b"location", location.encode()))
    return status, headers, dumps(body)
