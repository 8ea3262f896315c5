"""Where IZVOR_AUTH=none, the socket itself must be loopback, however the server was started."""

from __future__ import annotations

import json
import uuid

import structlog
from django.conf import settings

from izvor_project.api.problems import CONTENT_TYPE, problem
from izvor_project.env import is_loopback
from izvor_project.listening import App, Receive, Scope, Send


class LoopbackOnly:
    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if settings.IZVOR_AUTH == "none" and scope["type"] in {"http", "websocket"}:
            server, client = scope.get("server"), scope.get("client")
            if not (server and client and is_loopback(server[0]) and is_loopback(client[0])):
                await self._refuse(scope, send)
                return
        await self.app(scope, receive, send)

    async def _refuse(self, scope: Scope, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        request_id = uuid.uuid4().hex
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            refusal = problem(
                403, "loopback_only", "With IZVOR_AUTH=none, only loopback is served."
            )
        body = json.dumps(refusal).encode()
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", request_id.encode()),
        ]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": body})
