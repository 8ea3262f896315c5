"""/nodes/N/qemu/V/vncproxy and /vncwebsocket."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import WSMsgType, web
from cryptography.hazmat.primitives.serialization import Encoding

from ..console import Session
from ..errors import PveError
from ..rfb import RfbServer, Stream
from ..routing import Call, route
from .qemu import start_task

POLL_S = 0.5


@route("POST", "/nodes/{node}/qemu/{vmid}/vncproxy")
async def vncproxy(call: Call) -> Any:
    call.sim.world.guest(call.node, call.vmid)
    has_password = bool(call.params.get("generate-password"))
    if has_password and not call.params.get("websocket"):
        raise PveError("'generate-password' requires 'websocket'")
    consoles = call.sim.consoles
    session = consoles.open(
        node=call.node, vmid=call.vmid, authid=call.identity.authid, has_password=has_password
    )
    upid = start_task(call, "vncproxy", lambda job: consoles.serve(job, session))
    answer: dict[str, Any] = {
        "user": call.identity.authid,
        "ticket": session.ticket,
        "port": str(session.port),
        "upid": upid,
        "cert": call.sim.certificate.public_bytes(Encoding.PEM).decode(),
    }
    if has_password:
        answer["password"] = session.password
    return answer


@route("GET", "/nodes/{node}/qemu/{vmid}/vncwebsocket")
async def vncwebsocket(call: Call) -> Any:
    session = call.sim.consoles.find(
        node=call.node,
        vmid=call.vmid,
        authid=call.identity.authid,
        port=int(call.params["port"]),
        ticket=str(call.params["vncticket"]),
    )
    socket = web.WebSocketResponse(protocols=("binary",), max_msg_size=1 << 20)
    if not socket.can_prepare(call.request).ok:
        raise PveError("invalid websocket request", status=501)
    session.opened.set()
    try:
        await socket.prepare(call.request)
        await _relay(call, session, socket)
    finally:
        session.closed.set()
    return socket


async def _relay(call: Call, session: Session, socket: web.WebSocketResponse) -> None:
    """Feed the RFB server from the websocket until one of the two, or the task, ends."""
    stream, consoles = Stream(), call.sim.consoles
    server = RfbServer(
        stream=stream,
        send=socket.send_bytes,
        password=session.password,
        title=call.sim.world.guests[session.vmid].name,
        lines=lambda: consoles.lines(session.vmid),
        type_key=lambda key: consoles.type_key(session.vmid, key),
    )
    loop = asyncio.get_running_loop()
    serving = loop.create_task(server.run(POLL_S))
    reading = loop.create_task(_feed(socket, stream))
    ended = loop.create_task(session.closed.wait())
    gone = loop.create_task(_until_gone(call, session))
    tasks = (serving, reading, ended, gone)
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stream.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await socket.close()


async def _until_gone(call: Call, session: Session) -> None:
    """QEMU is the VNC server: both end together, also where the guest goes on elsewhere."""
    while True:
        guest = call.sim.world.guests.get(session.vmid)
        if guest is None or not guest.is_running or guest.node != session.node:
            return
        await asyncio.sleep(POLL_S)


async def _feed(socket: web.WebSocketResponse, stream: Stream) -> None:
    async for message in socket:
        if message.type == WSMsgType.BINARY:
            stream.feed(message.data)
    stream.close()
