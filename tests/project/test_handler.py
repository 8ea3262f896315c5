"""What Django's own ASGI handler does, done by ours: signals, closing, hanging up."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.signals import request_finished, request_started
from django.http import HttpResponse, StreamingHttpResponse

from izvor_project.handler import Handler

SCOPE: dict[str, Any] = {
    "type": "http",
    "method": "GET",
    "path": "/",
    "headers": [],
    "query_string": b"",
}


@pytest.fixture
def happened(monkeypatch):
    """What came to pass, in order, and in which thread."""
    seen: list[tuple[str, str]] = []

    def note(what: str) -> None:
        seen.append((what, threading.current_thread().name))

    def started(**_: object) -> None:
        note("started")

    def finished(**_: object) -> None:
        note("finished")

    request_started.connect(started)
    request_finished.connect(finished)
    yield seen, note
    request_started.disconnect(started)
    request_finished.disconnect(finished)


def handler(answer: Any) -> Handler:
    made = Handler()
    made.get_response = answer  # type: ignore[method-assign]
    return made


def asked(app: Handler, *messages: dict[str, Any]) -> tuple[int, list[bytes]]:
    """The status, and the body's pieces."""
    return asyncio.run(ask(app, *messages))


async def ask(
    app: Handler, *messages: dict[str, Any], scope: dict[str, Any] = SCOPE
) -> tuple[int, list[bytes]]:
    client = ApplicationCommunicator(app, scope)
    for message in messages or ({"type": "http.request", "body": b"", "more_body": False},):
        await client.send_input(message)
    status = (await client.receive_output(timeout=30))["status"]
    pieces, more = [], True
    while more:
        message = await client.receive_output()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    await client.wait()
    return status, pieces


def test_a_request_is_answered_in_one_thread_with_its_signals(happened):
    seen, note = happened

    def answer(request: Any) -> HttpResponse:
        note(f"{request.method} {request.body.decode()}")
        return HttpResponse(b"x" * 100_000, status=202)

    pieces = (
        {"type": "http.request", "body": b"one ", "more_body": True},
        {"type": "http.request", "body": b"two", "more_body": False},
    )
    assert asked(handler(answer), *pieces) == (202, [b"x" * 100_000])
    assert [what for what, _ in seen] == ["started", "GET one two", "finished"]
    (thread,) = {name for _, name in seen}
    assert thread.startswith("request")


def test_what_is_streamed_is_closed_after_its_last_piece(happened):
    seen, note = happened

    def content() -> Any:
        yield b"first"
        note("read")
        yield b"second"

    with pytest.warns(Warning, match="synchronous iterators"):
        status, pieces = asked(handler(lambda request: StreamingHttpResponse(content())))
    assert (status, b"".join(pieces)) == (200, b"firstsecond")
    assert [what for what, _ in seen] == ["started", "read", "finished"]


def test_an_error_that_nobody_caught_ends_the_request_all_the_same(happened):
    seen, _ = happened

    def broken(request: Any) -> HttpResponse:
        raise RuntimeError("not even a page for it")

    with pytest.raises(RuntimeError, match="not even a page"):
        asked(handler(broken))
    assert [what for what, _ in seen] == ["started", "finished"]


def test_who_waits_for_something_holds_up_nobody_else(settings):
    """However few connections there are to Postgres."""
    most = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
    go, begun = threading.Event(), threading.Semaphore(0)

    def answer(request: Any) -> HttpResponse:
        if "slow" in request.GET:
            begun.release()
            assert go.wait(30)
        return HttpResponse(b"done")

    async def ask_in_the_meantime() -> tuple[int, list[bytes]]:
        slow = {**SCOPE, "query_string": b"slow"}
        waiting = [asyncio.ensure_future(ask(app, scope=slow)) for _ in range(most + 4)]
        try:
            for _ in waiting:
                assert await asyncio.to_thread(begun.acquire, timeout=30)
            return await ask(app)
        finally:
            go.set()
            await asyncio.gather(*waiting)

    app = handler(answer)
    assert asyncio.run(ask_in_the_meantime()) == (200, [b"done"])


def test_who_hangs_up_in_the_middle_of_a_body_asks_for_nothing(happened):
    seen, _ = happened

    async def hang_up() -> bool:
        client = ApplicationCommunicator(handler(None), SCOPE)
        await client.send_input({"type": "http.request", "body": b"half", "more_body": True})
        await client.send_input({"type": "http.disconnect"})
        await client.wait()
        return bool(await client.receive_nothing())

    assert asyncio.run(hang_up())
    assert seen == []
