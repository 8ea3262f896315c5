"""Things that go wrong on purpose: rules that match requests, and what then happens to them."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from aiohttp import web

from .text import reason_phrase

if TYPE_CHECKING:
    from .simulator import Simulator

KINDS = (
    "drop_after_effect",
    "drop_before_effect",
    "status",
    "delay",
    "cut",
)

PROXY_FAILURES = 595
LONGEST_DELAY_S = 86_400

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Fault:
    """What happens to the next `count` requests whose method and path match, or to a share of them.

    `drop_after_effect`: the call is carried out, the connection closes without an answer.
    `drop_before_effect`: the connection closes and nothing was done.
    `status`: answered with `status` and `text` in the reason phrase; nothing was done. Below 595,
    where the answer comes from Proxmox itself, the body holds `text` too, and `errors` if given.
    `delay`: carried out after `seconds` (simulated).
    `cut`: carried out, the connection closes in the middle of the answer.
    """

    kind: str
    method: str = "*"
    path: str = ".*"
    count: int = 1
    status: int = 500
    text: str = "injected fault"
    errors: dict[str, str] | None = None
    seconds: float = 0.0
    share: float = 1.0
    hits: int = 0

    def matches(self, method: str, path: str, chance: Callable[[], float]) -> bool:
        if self.count <= 0 or self.method not in ("*", method):
            return False
        return re.search(self.path, path) is not None and (self.share >= 1 or chance() < self.share)


def check_types(target: Callable[..., Any], given: dict[str, Any]) -> None:
    """Arguments from outside against the annotations of what takes them; ValueError if one is
    unknown or of another type (an integer will do for a number)."""
    hints = get_type_hints(target)
    for name, value in given.items():
        if name not in hints:
            raise ValueError(f"unknown argument '{name}'")
        hint = hints[name]
        kinds = [get_origin(kind) or kind for kind in (get_args(hint) or (hint,))]
        if get_origin(hint) is dict:
            kinds = [dict]
        if float in kinds:
            kinds.append(int)
        is_number_for_bool = isinstance(value, bool) and bool not in kinds
        if Any not in kinds and (is_number_for_bool or not isinstance(value, tuple(kinds))):
            raise ValueError(f"'{name}' has a value of the wrong type")


class Faults:
    def __init__(self, seed: int = 1) -> None:
        # Its own, so that a fault more or less changes nothing of the world.
        self._chance = random.Random(seed).random
        self.rules: list[Fault] = []
        self.has_foreign_certificate = False
        self.refused_handshakes = 0

    def add(self, kind: str, **settings: Any) -> Fault:
        """Add a rule; raises ValueError for an unknown kind, a broken pattern or a bad value."""
        if kind not in KINDS:
            raise ValueError(f"unknown fault kind '{kind}', known are {', '.join(KINDS)}")
        check_types(Fault, settings)
        rule = Fault(kind, **settings)
        if not 200 <= rule.status <= 599:
            raise ValueError(f"status {rule.status} is not between 200 and 599")
        if not 0 < rule.share <= 1:
            raise ValueError("share must be above 0 and at most 1")
        if not 0 <= rule.seconds <= LONGEST_DELAY_S:
            raise ValueError(f"seconds must be between 0 and {LONGEST_DELAY_S}")
        try:
            re.compile(rule.path)
        except re.error as error:
            raise ValueError(f"path is no regular expression: {error}") from None
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        self.rules.clear()
        self.refused_handshakes = 0

    def take_refused_handshake(self) -> bool:
        """Whether this new connection's TLS handshake is to fail."""
        if self.refused_handshakes <= 0:
            return False
        self.refused_handshakes -= 1
        return True

    def _take(self, request: web.Request) -> Fault | None:
        path = request.path.removeprefix("/api2/json")
        for rule in self.rules:
            if rule.matches(request.method, path, self._chance):
                rule.count -= 1
                rule.hits += 1
                return rule
        return None

    async def around(
        self, sim: Simulator, request: web.Request, answer: Answer
    ) -> web.StreamResponse:
        """Answer the request, with whatever fault is due."""
        rule = self._take(request) if self.rules else None
        if rule is None:
            return await answer(request)
        if rule.kind == "status":
            return _refusal(rule)
        if rule.kind == "drop_before_effect":
            return _hang_up(request)
        if rule.kind == "delay":
            await sim.clock.sleep(rule.seconds)
            return await answer(request)
        response = await answer(request)
        if rule.kind == "cut" and isinstance(response, web.Response):
            return await _cut(request, response)
        return _hang_up(request)


def _refusal(rule: Fault) -> web.Response:
    if rule.status >= PROXY_FAILURES:
        return web.Response(status=rule.status, reason=reason_phrase(rule.text))
    body: dict[str, Any] = {"data": None, "message": f"{rule.text}\n"}
    if rule.errors is not None:
        body["errors"] = rule.errors
    return web.json_response(body, status=rule.status, reason=reason_phrase(rule.text))


def _hang_up(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError


async def _cut(request: web.Request, response: web.Response) -> web.StreamResponse:
    body = response.body if isinstance(response.body, bytes) else b""
    partial = web.StreamResponse(status=response.status, reason=response.reason)
    partial.content_type = response.content_type
    partial.content_length = len(body) + 1
    await partial.prepare(request)
    await partial.write(body[: max(1, len(body) // 2)])
    return _hang_up(request)
