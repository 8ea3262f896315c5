"""`GET /api/v1/events`: a stream of events for each listener, without a thread or a connection.

Django has answered first, with everything that it checks: token, role, parameters, the number of
requests. Its answer names what to stream, and this layer goes on with it (`izvor_project.hub`).
"""

from __future__ import annotations

import structlog
from django.db import DatabaseError

from events.stream import STREAM_HEADER, Order
from izvor_project.hub import Hub, Listener
from izvor_project.listening import Answer, App, Receive, Scope, Send, ends_first, gone, when_let_go

log = structlog.get_logger(__name__)

# The last two are for proxies: keep nothing, hold nothing back.
_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class StreamLayer:
    """The ASGI application in front of Django's."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.hub = Hub()
        when_let_go(self.hub.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        answer = Answer(send, STREAM_HEADER)
        await self.app(scope, receive, answer.take)
        if answer.word is not None:
            await ends_first(self._stream(Order.from_header(answer.word), answer), gone(receive))

    async def _stream(self, order: Order, answer: Answer) -> None:
        listener = Listener(order)
        self.hub.join(listener)
        try:
            await answer.begin(answer.status, _HEADERS)
            await self._send_all(listener, answer.send)
        except DatabaseError as error:
            log.warning("events_without_database", error=str(error))
            await _say(answer.send, b": the database is away; come back\n\n")
        finally:
            self.hub.leave(listener)
        await answer.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, listener: Listener, send: Send) -> None:
        async for chunk in self.hub.catch_up(listener):
            await _say(send, chunk)
        is_last = False
        while not is_last:
            await listener.has_something.wait()
            is_last = listener.is_cut
            await _say(send, listener.take())


async def _say(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})
