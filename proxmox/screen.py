"""A VM's screen: Proxmox's websocket, opened and logged in, as a stream of bytes for asyncio."""

from __future__ import annotations

import asyncio
import socket
import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from proxmox import rfb
from proxmox.calls import redact
from proxmox.classify import classify
from proxmox.errors import BadAnswer, ProxmoxError, TimedOut, Unreachable, Untrusted
from proxmox.results import VncTicket
from proxmox.tls import is_untrusted
from proxmox.wire import decoded

# pveproxy takes no message over 128 KiB, and none in fragments.
PIECE_BYTES = 64 * 1024
# It sends up to 128 KiB in one.
MESSAGE_BYTES_MAX = 1024 * 1024
# So many messages wait here at most; then TCP holds the sender back.
QUEUED_MESSAGES = 4
PING_S = 20.0
# A pong may come late behind a large picture, so that only TCP's own acknowledgements are timed.
DEAD_AFTER_S = 40.0
CLOSE_S = 2.0


class Screen:
    """What is read and written is RFB from ClientInit on: the login has been done.

    Holds back either side while the other is slow, so that no more than some messages wait here.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._reader = rfb.Reader(self._receive)

    async def read(self) -> bytes:
        """What came next; b"" once Proxmox has ended it, as when the VM stops."""
        if self._reader.left:
            left, self._reader.left = self._reader.left, b""
            return left
        try:
            return await self._receive()
        except ConnectionClosed:
            return b""

    async def write(self, data: bytes) -> None:
        """Returns once it may be followed by more. After the end it is dropped: `read` tells."""
        try:
            for start in range(0, len(data), PIECE_BYTES):
                await self._connection.send(data[start : start + PIECE_BYTES])
        except ConnectionClosed:
            return

    async def close(self) -> None:
        """Ends the session in Proxmox too."""
        await self._connection.close()

    async def log_in(self, password: str) -> None:
        try:
            await rfb.log_in(self._reader, self.write, password)
        except ConnectionClosed:
            raise BadAnswer("Proxmox closed the screen before it showed anything") from None

    async def _receive(self) -> bytes:
        while not (data := await self._connection.recv(decode=False)):
            continue  # an empty message is not the end
        return data


async def open_screen(ticket: VncTicket, tls: ssl.SSLContext, *, timeout_s: float) -> Screen:
    """Open the websocket at the machine that gave the ticket, and log in to VNC there.

    `tls` is `client.tls.context()`. Raises the errors of `proxmox.errors`; `timeout_s` is for all
    of it.
    """
    try:
        async with asyncio.timeout(timeout_s):
            connection = await _connect(ticket, tls)
            try:
                screen = Screen(connection)
                await screen.log_in(ticket.password)
            except BaseException:
                connection.transport.abort()
                raise
            return screen
    except ProxmoxError as error:
        redact(error, frozenset({ticket.ticket, ticket.password}))
        raise
    except TimeoutError:
        raise TimedOut(f"{ticket.endpoint}: the screen did not open in time") from None


async def _connect(ticket: VncTicket, tls: ssl.SSLContext) -> ClientConnection:
    try:
        connection = await connect(
            f"wss://{ticket.endpoint}{ticket.path}",
            host=ticket.address,
            port=ticket.endpoint.port,
            ssl=tls,
            server_hostname=ticket.endpoint.host,
            additional_headers=dict(ticket.headers),
            subprotocols=[Subprotocol("binary")],
            # pveproxy knows none, and what QEMU sends is compressed already.
            compression=None,
            proxy=None,
            open_timeout=None,
            ping_interval=PING_S,
            ping_timeout=None,
            close_timeout=CLOSE_S,
            max_size=MESSAGE_BYTES_MAX,
            max_queue=QUEUED_MESSAGES,
            write_limit=PIECE_BYTES,
        )
    except InvalidStatus as refused:
        raise _refusal(refused) from None
    except InvalidHandshake:
        raise BadAnswer(f"{ticket.endpoint}: what answered speaks no websocket") from None
    except OSError as error:
        if isinstance(error, TimeoutError):
            raise
        kind = Untrusted if is_untrusted(error) else Unreachable
        why = error.strerror or (str(error.args[0]) if error.args else type(error).__name__)
        raise kind(f"{ticket.endpoint}: {why}") from None
    _watch_over(connection)
    return connection


def _refusal(refused: InvalidStatus) -> ProxmoxError:
    response = refused.response
    body = decoded(bytes(response.body or b""))
    return classify(response.status_code, response.reason_phrase, body, method="GET")


def _watch_over(connection: ClientConnection) -> None:
    """Let the system notice a machine that is gone, by the pings that nobody acknowledges."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        sock = connection.transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, option, int(DEAD_AFTER_S * 1000))
