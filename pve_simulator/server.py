"""The HTTP side: envelope, credentials, parameters, error texts in the reason phrase."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import traceback
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, unquote_plus
from weakref import WeakSet

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from . import fault_api, permissions, routing, schema
from .access import Identity
from .errors import PveError, unauthorized
from .images import UPLOAD, Receiver
from .listener import Listener
from .routing import Call, WithTotal
from .simulator import LoggedCall, Simulator
from .text import reason_phrase

MAX_BODY_BYTES = 512 * 1024
MAX_UPLOAD_BYTES = 4 * 1024**3
UPLOAD_PIECE_BYTES = 256 * 1024
REFUSAL_DELAY_S = 3.0
SHUTDOWN_S = 0.2
CLOSING_TURNS = 4
"""Turns of the event loop that an aborted TLS connection needs to let go of its socket."""

FORMATS = ("json", "extjs")
_METHODS = ("GET", "POST", "PUT", "DELETE")


class Server:
    """Serves one simulator over TLS. `port` is known after `start`."""

    def __init__(self, sim: Simulator) -> None:
        routing.load_all()
        self.sim = sim
        self.port = 0
        self.endpoints: dict[str, int] = {}
        self._listeners: list[Listener] = []
        self._contexts: dict[Path, ssl.SSLContext] = {}
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        app = web.Application(client_max_size=MAX_UPLOAD_BYTES)
        app.router.add_route("*", "/{tail:.*}", self._serve)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=SHUTDOWN_S, logger=_quiet_logger()
        )

    async def start(self) -> None:
        """Open one port, or one a node with `has_endpoint_per_node` (the first is `port`)."""
        options = self.sim.options
        await self._runner.setup()
        names: list[str | None] = [None]
        if options.has_endpoint_per_node:
            names = list(self.sim.world.nodes)
        for index, name in enumerate(names):
            listener = Listener(
                factory=self._runner.server,  # type: ignore[arg-type]
                context=self._context,
                is_down=partial(self._is_down, name),
                is_refusing=self.sim.faults.take_refused_handshake,
            )
            listener.open(options.host, options.port + index if options.port else 0)
            self._listeners.append(listener)
            self.endpoints[name or ""] = listener.port
        self.port = self._listeners[0].port
        await self.sim.start()

    def _is_down(self, name: str | None) -> bool:
        node = self.sim.world.nodes.get(name or "")
        return node is not None and not node.is_online

    def _context(self) -> ssl.SSLContext:
        """The certificate for new connections: the simulator's, or that of a stranger."""
        files = self.sim.certificates
        if self.sim.faults.has_foreign_certificate:
            files = self.sim.foreign_certificates()
        if files.server_file not in self._contexts:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(files.server_file)
            self._contexts[files.server_file] = context
        return self._contexts[files.server_file]

    async def close(self) -> None:
        for listener in self._listeners:
            await listener.close()
        served = self._runner.server
        if served is not None:
            self._transports.update(c.transport for c in served.connections if c.transport)
        await self._runner.cleanup()
        await self.sim.close()
        for transport in list(self._transports):
            transport.abort()
        for _ in range(CLOSING_TURNS):
            await asyncio.sleep(0)

    @property
    def url(self) -> str:
        host = self.sim.options.host
        shown = f"[{host}]" if ":" in host else host
        return f"https://{shown}:{self.port}"

    @property
    def urls(self) -> list[str]:
        """Of every endpoint, in the order of the nodes."""
        base = self.url.rsplit(":", 1)[0]
        return [f"{base}:{listener.port}" for listener in self._listeners]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            self._transports.add(request.transport)
        if self.sim.options.has_fault_api and request.path.startswith("/sim/"):
            return await fault_api.answer(self.sim, request)
        return await self.sim.faults.around(self.sim, request, self._answer)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = request.raw_path.partition("?")[0]
        segments = [unquote(part) for part in raw.split("/") if part]
        if segments[:1] != ["api2"] or len(segments) < 2:
            return web.Response(status=404, reason="File not found")
        format_name, segments = segments[1], segments[2:]
        if request.method not in _METHODS:
            reason = f"method '{request.method}' not available"
            return web.Response(status=501, reason=reason)
        if format_name not in FORMATS:
            text = f"no formatter for uri /{'/'.join(segments)}, {format_name}"
            return web.Response(status=501, reason=reason_phrase(text), text=text)
        if request.method == "DELETE" and request.content_length != 0 and request.body_exists:
            text = "Unexpected content for method 'DELETE'"
            return web.Response(status=501, reason=text, text=text)
        try:
            result = await self._call(request, segments)
        except PveError as error:
            return await self._failure(error, format_name)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            traceback.print_exc()
            return await self._failure(PveError(f"simulator bug: {error!r}"), format_name)
        if isinstance(result, web.StreamResponse):
            return result
        return self._success(result, format_name)

    async def _call(self, request: web.Request, segments: list[str]) -> Any:
        path = "/" + "/".join(segments)
        found = routing.find(request.method, segments)
        key = found[0] if found else ""
        world_may = schema.facts_of(key).get("user") == "world" if found else False
        identity = self._identify(request, is_open=world_may)
        if found is None:
            raise PveError(f"Method '{request.method} {path}' not implemented", status=501)
        _, handler, values = found
        body = await _parameters(request)
        self.sim.log_call(LoggedCall(request.method, path, body))
        given: dict[str, Any] = {**body, **values}
        self._refuse_dead_node(values.get("node"))
        params = schema.check_parameters(key, given)
        permissions.check(self.sim, identity, schema.facts_of(key), params)
        if (
            request.method != "GET"
            and not self.sim.world.has_quorum
            and not path.startswith("/acc")
        ):
            raise PveError("cluster not ready - no quorum?")
        if "node" in values:
            self.sim.world.node(values["node"])
        result = await handler(Call(self.sim, identity, request.method, path, params, request))
        if request.method != "GET":
            self.sim.touch()
        return result

    def _identify(self, request: web.Request, *, is_open: bool) -> Identity:
        header = request.headers.get("Authorization", "")
        access = self.sim.access
        if header.startswith("PVEAPIToken="):
            return access.identify_token(unquote(header.removeprefix("PVEAPIToken=")))
        ticket = request.cookies.get("PVEAuthCookie")
        if ticket:
            identity = access.identify_ticket(unquote_plus(ticket) if "%" in ticket else ticket)
            if request.method != "GET":
                access.check_csrf(identity, request.headers.get("CSRFPreventionToken"))
            return identity
        if is_open:
            return Identity("")
        raise unauthorized("No ticket")

    def _refuse_dead_node(self, name: str | None) -> None:
        node = self.sim.world.nodes.get(name or "")
        if node is not None and not node.is_online:
            raise PveError("No route to host", status=595, has_body=False)

    def _success(self, result: Any, format_name: str) -> web.Response:
        if isinstance(result, bytes):
            return web.Response(body=result, content_type="application/json", charset="utf-8")
        body: dict[str, Any] = {"data": result}
        if isinstance(result, WithTotal):
            body = {"data": result.data}
            if result.total is not None:
                body["total"] = result.total
        if format_name == "extjs":
            body["success"] = 1
        return _json(body)

    async def _failure(self, error: PveError, format_name: str) -> web.Response:
        if error.status == 401:
            await self.sim.clock.sleep(REFUSAL_DELAY_S)
        reason = reason_phrase(error.text)
        if isinstance(error, _PlainText):
            return web.Response(status=error.status, reason=reason, text=f"{error.text}\n")
        if not error.has_body:
            response = web.Response(status=error.status, reason=reason)
            if error.status == 401:
                response.force_close()
            return response
        body: dict[str, Any] = {"data": None}
        if error.errors is not None:
            body["errors"] = error.errors
        if not self.sim.is_old:
            newline = "" if error.status == 501 else "\n"
            body["message"] = error.text + newline
        if format_name == "extjs":
            body.update(success=0, status=error.status, message=error.text + "\n")
            return _json(body)
        return _json(body, status=error.status, reason=reason)


def _quiet_logger() -> logging.Logger:
    """Tells of failures in here; what is no HTTP gets its 400, and is nothing to tell of."""
    logger = logging.getLogger("pve_simulator.http")
    if not logger.filters:
        logger.addFilter(lambda record: not _is_no_http(record))
    return logger


def _is_no_http(record: logging.LogRecord) -> bool:
    return record.exc_info is not None and isinstance(record.exc_info[1], BadHttpMessage)


def _json(body: Any, *, status: int = 200, reason: str = "OK") -> web.Response:
    text = json.dumps(body, separators=(",", ":"))
    return web.Response(
        status=status, reason=reason, text=text, content_type="application/json", charset="UTF-8"
    )


async def _parameters(request: web.Request) -> dict[str, Any]:
    """Query and body together; a repeated form field becomes a list."""
    given = _fields(request.rel_url.raw_query_string, is_cut=False)
    if not request.body_exists or request.method == "GET":
        return given
    if request.content_type == "multipart/form-data":
        return given | await _multipart(request)
    if (request.content_length or 0) > MAX_BODY_BYTES:
        raise PveError("for data too large", status=501, has_body=False)
    raw = await request.read()
    if len(raw) > MAX_BODY_BYTES:
        raise PveError("for data too large", status=501, has_body=False)
    text = raw.decode("utf-8", "surrogateescape")
    if request.content_type == "application/json":
        given.update(_json_fields(text))
    else:
        given.update(_fields(text))
    return given


async def _multipart(request: web.Request) -> dict[str, Any]:
    """The form's fields; the file is kept as `request[UPLOAD]`, its name as `filename`."""
    fields: dict[str, Any] = {}
    request[UPLOAD] = Receiver().end()
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader) or part.name is None:
            continue
        if part.filename is None:
            fields[part.name] = (await part.read()).decode("utf-8", "replace")
            continue
        receiver = Receiver()
        while piece := await part.read_chunk(UPLOAD_PIECE_BYTES):
            receiver.feed(piece)
        request[UPLOAD] = receiver.end()
        fields["filename"] = part.filename
    return fields


def _json_fields(text: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        reason = (
            "malformed JSON string, neither tag, array, object, number, string or atom, at "
            f'character offset {error.pos} (before "(end of string)") at '
            "/usr/share/perl5/PVE/APIServer/AnyEvent.pm line 917."
        )
        raise _PlainText(reason) from None
    if not isinstance(body, dict):
        raise PveError("JSON body is not an object", status=400)
    return body


class _PlainText(PveError):
    """A failure of the HTTP layer itself, answered without JSON."""

    def __init__(self, text: str) -> None:
        super().__init__(text, has_body=False)


def _fields(text: str, *, is_cut: bool = True) -> dict[str, Any]:
    """Form fields; in a body Proxmox cuts a value at a literal `=`."""
    fields: dict[str, Any] = {}
    for part in text.split("&"):
        if not part:
            continue
        pieces = part.split("=") if is_cut else part.split("=", 1)
        name = unquote_plus(pieces[0])
        value = unquote_plus(pieces[1]) if len(pieces) > 1 else ""
        if name in fields:
            known = fields[name]
            fields[name] = [*known, value] if isinstance(known, list) else [known, value]
        else:
            fields[name] = value
    return fields
