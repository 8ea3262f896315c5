"""proxmoxer between our calls and our transport.

proxmoxer builds the URL, issues the request and unpacks the answer; what it calls a session is
ours, so that its own timeouts, certificates, logins and logs are not used. Its exceptions end here.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import uuid4

from proxmoxer.core import ProxmoxResource, ResourceException

from proxmox.auth import Identity
from proxmox.classify import classify
from proxmox.deadline import Deadline
from proxmox.endpoints import Endpoint
from proxmox.errors import BadAnswer, OutcomeUnknown, ProxmoxError
from proxmox.transport import Body, Reply, Request, Transport

# The transport picks the endpoint, so the host in proxmoxer's URLs is nobody's.
BASE_URL = "https://cluster/api2/json"


def _is_quiet(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def quieten() -> None:
    """Keeps the libraries below from logging what they send, passwords included.

    A filter, since somebody may set their level later; proxmoxer logs bodies at INFO, answers at
    DEBUG, urllib3 its URLs, and websockets headers and every key that is typed.
    """
    for name in (
        "proxmoxer.core",
        "urllib3.connectionpool",
        "urllib3.connection",
        "websockets.client",
    ):
        logger = logging.getLogger(name)
        if _is_quiet not in logger.filters:
            logger.addFilter(_is_quiet)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as the last part of a multipart body."""

    filename: str
    file: IO[bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    data: object
    endpoint: Endpoint
    peer: str
    headers: Mapping[str, str]


class Garbled(Exception):
    """A 2xx answer that is not JSON with `data` in it."""


class Serializer:
    """Reads bodies for proxmoxer, which asks `loads` for 2xx and `loads_errors` for the rest."""

    def loads(self, reply: Reply) -> object:
        body = decoded(reply.content)
        if body is None or "data" not in body:
            raise Garbled
        return body["data"]

    def loads_errors(self, reply: Reply) -> Mapping[str, object] | None:
        return decoded(reply.content)


def decoded(content: bytes) -> Mapping[str, object] | None:
    """The object in a JSON body; None for anything else."""
    try:
        body = json.loads(content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


class Session:
    """One call's session: proxmoxer hands it the request, it gives back the reply."""

    def __init__(
        self,
        transport: Transport,
        identity: Identity | None,
        deadline: Deadline,
        *,
        is_repeatable: bool,
    ) -> None:
        self._transport = transport
        self._identity = identity
        self._deadline = deadline
        self._is_repeatable = is_repeatable
        self.replies: list[Reply] = []
        self.headers: dict[str, str] = {}

    def request(
        self,
        method: str,
        url: str,
        data: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Reply:
        target = urlsplit(url).path
        if params:
            target += "?" + urlencode(params, quote_via=quote)
        reply = self._send(method, target, data)
        if reply.status_code == 401 and self._identity and self._identity.was_refused(self.headers):
            # Refused at the door, so nothing happened: a fresh login may do it again.
            reply = self._send(method, target, data)
        self.replies.append(reply)
        return reply

    def _send(self, method: str, target: str, data: Mapping[str, Any] | None) -> Reply:
        if self._identity is not None:
            self.headers = self._identity.headers(method, self._deadline)
        content_headers, body = _encoded(method, data or {})
        return self._transport.exchange(
            Request(
                method,
                target,
                is_repeatable=self._is_repeatable,
                headers={"Accept": "application/json", **content_headers, **self.headers},
                body=body,
            ),
            self._deadline,
        )


def call(
    transport: Transport,
    identity: Identity | None,
    deadline: Deadline,
    *,
    method: str,
    segments: tuple[str, ...],
    values: Mapping[str, Any],
    is_repeatable: bool,
) -> Answer:
    """One call of the API. `segments` and `values` are validated; segments get encoded here.

    Raises the errors of `proxmox.errors`.
    """
    session = Session(transport, identity, deadline, is_repeatable=is_repeatable)
    resource = ProxmoxResource(base_url=BASE_URL, session=session, serializer=Serializer())(
        tuple(quote(segment, safe="") for segment in segments)
    )
    verb: Callable[..., object] = getattr(resource, method.lower())
    try:
        data = verb(**values)
    except ResourceException:
        raise _refusal(method, session.replies[-1]) from None
    except Garbled:
        text = "the answer is not the JSON of Proxmox's API"
        raise (BadAnswer if is_repeatable else OutcomeUnknown)(text) from None
    reply = session.replies[-1]
    if not 200 <= reply.status_code < 300:
        # proxmoxer lets redirects pass for an empty answer.
        raise _refusal(method, reply)
    return Answer(data, reply.endpoint, reply.peer, session.headers)


def _refusal(method: str, reply: Reply) -> ProxmoxError:
    return classify(reply.status_code, reply.reason, decoded(reply.content), method=method)


# -- bodies --------------------------------------------------------------------------------------


def _encoded(
    method: str, data: Mapping[str, Any]
) -> tuple[dict[str, str], Callable[[], Body] | None]:
    """Headers and body of a form. GET and DELETE have none: Proxmox answers 501 to a DELETE with
    one."""
    if method in ("GET", "DELETE"):
        return {}, None
    uploads = {name: value for name, value in data.items() if isinstance(value, Upload)}
    if uploads:
        return _multipart(data, uploads)
    # Percents for everything: Proxmox cuts a value at a literal `=`, and `+` is no space where a
    # value is encoded twice.
    form = urlencode(data, quote_via=quote, safe="").encode("ascii")
    return {"Content-Type": "application/x-www-form-urlencoded"}, lambda: form


def _multipart(
    data: Mapping[str, Any], uploads: Mapping[str, Upload]
) -> tuple[dict[str, str], Callable[[], Body]]:
    boundary = uuid4().hex
    (name, upload), *_ = uploads.items()
    fields = {key: value for key, value in data.items() if key not in uploads}
    head = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    )
    head += (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; '
        f'filename="{upload.filename}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    )
    tail = f"\r\n--{boundary}--\r\n"
    start = upload.file.tell()
    length = upload.file.seek(0, os.SEEK_END) - start
    parts = head.encode(), tail.encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        # Proxmox refuses chunked bodies.
        "Content-Length": str(len(parts[0]) + length + len(parts[1])),
    }

    def body() -> Body:
        upload.file.seek(start)
        return _Chain(parts[0], upload.file, parts[1])  # type: ignore[return-value]

    return headers, body


class _Chain:
    """A file between two texts, read without holding it in memory."""

    def __init__(self, head: bytes, file: IO[bytes], tail: bytes) -> None:
        self._head, self._file, self._tail = head, file, tail

    def read(self, size: int) -> bytes:
        for source in (self._from_head, self._file.read, self._from_tail):
            block = source(size)
            if block:
                return block
        return b""

    def _from_head(self, size: int) -> bytes:
        block, self._head = self._head[:size], self._head[size:]
        return block

    def _from_tail(self, size: int) -> bytes:
        block, self._tail = self._tail[:size], self._tail[size:]
        return block
