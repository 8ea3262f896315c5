"""Django behind the layers: a request goes to a thread once, and its answer comes back once.

Our middleware and all views are synchronous. Django's own ASGI handler changes between its thread
and the loop for the signals, at each border of the middleware and for the view, and makes a thread
for each request: that took longer than most answers (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.signals import request_finished, request_started
from django.db import close_old_connections
from django.http import FileResponse
from django.urls import set_script_prefix

from izvor_project.listening import Scope

P = ParamSpec("P")
T = TypeVar("T")

# More than there are connections to Postgres: who needs none is answered while others wait for
# one, and these are refused when the pool's patience is over, rather than stand in a line here.
MOST_AT_ONCE = 256
_threads = ThreadPoolExecutor(max_workers=MOST_AT_ONCE, thread_name_prefix="request")


def in_request_thread(function: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    return sync_to_async(function, thread_sensitive=False, executor=_threads)


class Handler(ASGIHandler):
    # Our answers are in memory already: most go out in one piece.
    chunk_size = 2**20

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def handle(self, scope: Scope, receive: Any, send: Any) -> None:
        try:
            body = await self.read_body(receive)
        except RequestAborted:
            return
        response = await in_request_thread(self.answer)(scope, body)
        try:
            await self.send_response(response, send)
        finally:
            if response.streaming:
                await in_request_thread(response.close)()

    def answer(self, scope: Scope, body: IO[bytes]) -> Any:
        """The response; closed, unless its content is still to be read."""
        try:
            response = self._answer(scope, body)
        except BaseException:
            # A response's closing says so; there is none.
            request_finished.send(sender=self.__class__)
            raise
        if response.streaming:
            # It is closed later, and in another thread; this one's connection goes back now.
            close_old_connections()
        else:
            response.close()
        return response

    def _answer(self, scope: Scope, body: IO[bytes]) -> Any:
        with body:
            set_script_prefix(get_script_prefix(scope))
            request_started.send(sender=self.__class__, scope=scope)
            request, refusal = self.create_request(scope, body)
            response: Any = refusal if request is None else self.get_response(request)
        response._handler_class = self.__class__
        if isinstance(response, FileResponse):
            response.block_size = self.chunk_size
        return response
