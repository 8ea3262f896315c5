"""One reader for all who listen to events in this process: reads and writes out each event once.

    listener:  catching up -> live -> cut

Catching up, it reads pages of its own until it has come to where the hub is; from then on it is fed
what the hub reads. Both happen in one thread, so nothing falls in between and nothing comes twice.
A listener that does not keep up is cut, and so is one whose token ends; it may come back with the
number of the last event that it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import structlog
from django.conf import settings
from django.db import DatabaseError

from accounts.models import ApiToken
from events import outbox
from events.outbox import Page
from events.stream import Order
from events.wanted import Wanted
from events.words import EVENTS
from izvor_project.listening import hear, in_thread, in_thread_of

log = structlog.get_logger(__name__)

HEARTBEAT = b": still here\n\n"
# One page of those who come back after a long time.
PAGE = 500
# How long one that was cut has to take the last word; it may have stopped reading for good.
PARTING_S = 5.0
# The reader's own thread: it never waits behind those who catch up.
_reader_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="events")


class Listener:
    """One connection, and what it is to be sent. Made in the task that sends it."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.is_live = False
        self.is_cut = False
        self.has_something = asyncio.Event()
        self.fed_at = time.monotonic()
        self._chunks: list[bytes] = []
        self._bytes = 0
        self._task = asyncio.current_task()

    def feed(self, chunk: bytes) -> None:
        """Give it something to send; one that holds too much already is cut instead."""
        if self.is_cut:
            return
        # What it holds already, since a burst alone is no sign of slowness.
        if self._bytes > settings.EVENTS["queue_bytes"]:
            self.cut("too slow: come back with the last id that you got")
            return
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        self.fed_at = time.monotonic()
        self.has_something.set()

    def cut(self, reason: str) -> None:
        """Its last word. What has piled up is dropped: it can be read again."""
        if self.is_cut:
            return
        self.is_cut = True
        self._chunks = [f": {reason}\n\n".encode()]
        self.has_something.set()
        if self._task is not None:
            asyncio.get_running_loop().call_later(PARTING_S, self._task.cancel)

    def take(self) -> bytes:
        chunk = b"".join(self._chunks)
        self._chunks, self._bytes = [], 0
        self.has_something.clear()
        return chunk


class Hub:
    """`position` is the number of the last event that was handed out; None while nobody reads."""

    def __init__(self) -> None:
        self.listeners: set[Listener] = set()
        self.position: int | None = None
        self._reader: asyncio.Task[None] | None = None
        self._checked_at = 0.0

    def join(self, listener: Listener) -> None:
        self.listeners.add(listener)
        if self._reader is None or self._reader.done():
            # Made here, since each belongs to one loop.
            self._has_begun = asyncio.Event()
            self._is_woken = asyncio.Event()
            self._reader = asyncio.create_task(self._read())

    def leave(self, listener: Listener) -> None:
        self.listeners.discard(listener)

    def close(self) -> None:
        for listener in self.listeners:
            listener.cut("the server ends: come back with the last id that you got")

    async def catch_up(self, listener: Listener) -> AsyncIterator[bytes]:
        """What the listener missed, up to where the hub is; after that it is live.

        Raises DatabaseError.
        """
        await self._has_begun.wait()
        if self.position is None:
            return
        at = listener.order.after
        if at is None or at > self.position:
            # A number that was never given comes from another database than this one.
            at = self.position
        yield f"retry: 2000\nid: {at}\n\n".encode()
        while self.position is not None and at < self.position:
            page = await in_thread(
                outbox.read_back, listener.order.wanted, at, self.position, limit=PAGE
            )
            at = page.position
            if page.frames:
                yield b"".join(page.frames)
        # Nothing was awaited since the comparison, so the hub has not moved on.
        listener.is_live = True

    async def _read(self) -> None:
        """Runs while anybody listens."""
        hearing = asyncio.create_task(
            hear(EVENTS, lambda _: self._is_woken.set(), while_any=lambda: self.listeners)
        )
        try:
            while self.listeners:
                # Cleared before the look, so a word that comes meanwhile leads to another one.
                self._is_woken.clear()
                looks_again_at = time.monotonic() + settings.EVENTS["gather_s"]
                await self._look()
                await self._check_tokens()
                self._show_life()
                await asyncio.sleep(max(0.0, looks_again_at - time.monotonic()))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_woken.wait(), settings.EVENTS["look_s"])
        finally:
            hearing.cancel()
            self.position = None
            self._has_begun.set()
            for listener in list(self.listeners):
                listener.cut("interrupted: come back with the last id that you got")

    async def _look(self) -> None:
        try:
            if self.position is None:
                self.position = await in_thread_of(_reader_thread, outbox.position)
                self._has_begun.set()
                return
            page = await in_thread_of(_reader_thread, outbox.read_on, self.position)
        except DatabaseError as error:
            log.warning("events_without_database", error=str(error))
            return
        self.position = page.position
        self._hand_out(page)
        if len(page.events) == outbox.BATCH:
            self._is_woken.set()

    def _hand_out(self, page: Page) -> None:
        """Joined once for all who want the same."""
        if not page.events:
            return
        alike: dict[Wanted, list[Listener]] = defaultdict(list)
        for listener in self.listeners:
            if listener.is_live:
                alike[listener.order.wanted].append(listener)
        for wanted, listeners in alike.items():
            chunk = b"".join(
                frame
                for event, frame in zip(page.events, page.frames, strict=True)
                if wanted.matches(event)
            )
            if chunk:
                for listener in listeners:
                    listener.feed(chunk)

    def _show_life(self) -> None:
        """So that neither side takes silence for death."""
        before = time.monotonic() - settings.EVENTS["heartbeat_s"]
        for listener in self.listeners:
            if listener.is_live and listener.fed_at <= before:
                listener.feed(HEARTBEAT)

    async def _check_tokens(self) -> None:
        """All at once, now and then: a token that was revoked or has expired hears no more."""
        now = time.monotonic()
        if now - self._checked_at < settings.EVENTS["recheck_s"]:
            return
        self._checked_at = now
        ids = [listener.order.token_id for listener in self.listeners]
        tokens = {token for token in ids if token is not None}
        try:
            usable = await in_thread_of(_reader_thread, usable_tokens, tokens)
        except DatabaseError as error:
            log.warning("events_without_database", error=str(error))
            return
        for listener in self.listeners:
            token = listener.order.token_id
            if token in tokens and token not in usable:
                listener.cut("this token has ended")


def usable_tokens(tokens: set[int]) -> set[int]:
    return set(ApiToken.objects.usable().filter(pk__in=tokens).values_list("pk", flat=True))
