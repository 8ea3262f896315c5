"""The websocket of a console: a ticket in, a VM's screen out. An ASGI application before Django's.

    ticket used up ──▶ VM identified, its screen asked for in Proxmox ──▶ relayed ──▶ closed
         └─ refused: closed at once, with a code and a sentence that the page shows

A browser tells a page nothing about a handshake that failed, so what has a sentence to say accepts
it first. Blocking work (Redis, the rows, Proxmox's API) is done by a few threads.
"""

from __future__ import annotations

import asyncio
import functools
import re
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qs, urlsplit

import structlog
from django.conf import settings
from django.db import Error as DatabaseError
from django.http.request import split_domain_port, validate_host
from django.utils.http import is_same_domain

from accounts.crypto import Unsealable
from izvor_project.console.rfb import NotRfb, welcome
from izvor_project.console.session import (
    STOPPED,
    Browser,
    End,
    Gone,
    Session,
    TextSent,
)
from izvor_project.env import is_loopback
from izvor_project.listening import App, Receive, Scope, Send, in_thread, in_thread_of
from operations.refusals import NotFound, Refusal
from proxmox import Forbidden, ProxmoxError, TimedOut, Unreachable
from proxmox.screen import Screen, open_screen
from vms import console

log = structlog.get_logger(__name__)

# The page hands the ticket in as a subprotocol of this name, as headers are in nobody's log.
TICKET_PROTOCOL = "izvor.ticket."
_TICKET = re.compile(r"[A-Za-z0-9_-]{20,100}")
POLICY, INTERNAL = 1008, 1011

# However many open at once, they take this many threads and database connections. A cluster that
# answers nothing holds up openings, and nothing of the consoles that are open.
_openings = ThreadPoolExecutor(max_workers=16, thread_name_prefix="console-opening")


class ConsoleRelay:
    def __init__(self, app: App) -> None:
        self.app = app
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        await receive()  # websocket.connect
        if scope["path"].rstrip("/") != console.SOCKET or not is_welcome(scope):
            await send({"type": "websocket.close", "code": POLICY})  # answered with 403
            return
        protocol = "binary" if "binary" in scope.get("subprotocols", ()) else None
        await send({"type": "websocket.accept", "subprotocol": protocol})
        browser = Browser(receive, send)
        self._open += 1
        try:
            end = await self._serve(ticket_of(scope), browser)
        finally:
            self._open -= 1
        await browser.close(end.code, end.sentence)

    async def _serve(self, ticket: str, browser: Browser) -> End:
        if self._open > settings.CONSOLE["sessions"]:
            return End("too many", 4429, "Too many consoles are open here: close one, try again.")
        try:
            visit = await in_thread(console.redeem, ticket)
        except NotFound as refusal:
            return End(refusal.code, 4401, refusal.detail)
        except (Refusal, DatabaseError) as error:
            return sorted_out(error)
        with structlog.contextvars.bound_contextvars(vm=str(visit.vm), by=visit.by.name):
            try:
                async with asyncio.timeout(settings.CONSOLE["open_s"]):
                    screen = await opened(visit)
            except (Refusal, ProxmoxError, Unsealable, DatabaseError, TimeoutError) as error:
                end = sorted_out(error)
                log.warning("console_not_opened", code=end.code, error=str(error))
                return end
            try:
                return await show(visit, screen, browser)
            except DatabaseError as error:
                # What cannot be written down is not shown either.
                log.error("console_not_written_down", error=str(error))
                return sorted_out(error)
            finally:
                await screen.close()


async def opened(visit: console.Visit) -> Screen:
    opening = await in_thread_of(_openings, console.ask_for_screen, visit.vm)
    return await open_screen(opening.vnc, opening.tls, timeout_s=settings.CONSOLE["open_s"])


async def show(visit: console.Visit, screen: Screen, browser: Browser) -> End:
    """Relay until the end, which is written down with its length whatever ends it."""
    await in_thread(console.record_opened, visit)
    log.info("console_opened", node=visit.vm.node)
    session = Session(browser, screen, functools.partial(is_still_theirs, visit))
    end = End("Izvor failed", INTERNAL, "Izvor failed; its log has the cause.")
    try:
        async with asyncio.timeout(settings.CONSOLE["open_s"]):
            await welcome(browser.reader, browser.write)
        end = await session.run()
    except Gone as gone:
        end = gone.end
    except (NotRfb, TextSent, TimeoutError):
        end = End("no RFB", POLICY, "What connected does not speak RFB 3.8.")
    except asyncio.CancelledError:
        end = STOPPED
        raise
    finally:
        log.info("console_closed", why=end.why, seconds=round(session.seconds, 1))
        closed = in_thread(
            console.record_closed,
            visit,
            seconds=session.seconds,
            why=end.why,
            shown=browser.shown,
            typed=browser.typed,
        )
        # A server that is told to stop cancels us; the audit is written all the same.
        await asyncio.shield(asyncio.ensure_future(closed))
    return end


async def is_still_theirs(visit: console.Visit) -> bool:
    """While the rows cannot be asked, what was true last holds."""
    try:
        return await in_thread(console.is_still_theirs, visit)
    except DatabaseError as error:
        log.warning("console_not_checked", error=str(error))
        return True


def sorted_out(error: Exception) -> End:
    """What kept the console from opening, as its page says it."""
    if isinstance(error, Refusal):
        return End(error.code, 4000 + error.status, error.detail)
    if isinstance(error, TimedOut | TimeoutError):
        return End("timed out", 4504, "Proxmox did not answer in time.")
    if isinstance(error, Unreachable):
        return End("unreachable", 4503, "Proxmox cannot be reached now.")
    if isinstance(error, Forbidden) and error.privilege:
        said = f"Izvor lacks the privilege {error.privilege} on {error.path} in Proxmox."
        return End("forbidden", 4502, said)
    if isinstance(error, ProxmoxError):
        return End("refused", 4502, f"Proxmox answered: {error}")
    return End("unavailable", 4503, "A service that Izvor needs cannot be reached now.")


# --- who may knock ---


def is_welcome(scope: Scope) -> bool:
    """Whether Host and Origin are ours: no other site's page may use a ticket that it got hold of.

    What sends no Origin is no browser, and has nothing but its ticket to go by.
    """
    headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
    host = headers.get(b"host", "")
    name, _ = split_domain_port(host)
    if not name or not validate_host(name, settings.ALLOWED_HOSTS):
        return False
    if settings.IZVOR_AUTH == "none" and not is_loopback(name):
        return False
    origin = headers.get(b"origin")
    return origin is None or is_own(origin, host)


def is_own(origin: str, host: str) -> bool:
    """The page's own host (a proxy may have spoken TLS for us), or one that the operator trusts."""
    if origin in {f"http://{host}", f"https://{host}", *settings.CSRF_TRUSTED_ORIGINS}:
        return True
    parts = urlsplit(origin)
    return any(
        parts.scheme == trusted.scheme and is_same_domain(parts.netloc, trusted.netloc.lstrip("*"))
        for trusted in map(urlsplit, settings.CSRF_TRUSTED_ORIGINS)
        if trusted.netloc.startswith("*")
    )


def ticket_of(scope: Scope) -> str:
    """From a subprotocol, else from the query; "" for what is no ticket."""
    offered = [
        protocol.removeprefix(TICKET_PROTOCOL)
        for protocol in scope.get("subprotocols", ())
        if protocol.startswith(TICKET_PROTOCOL)
    ]
    query = parse_qs(scope["query_string"].decode("latin-1"))
    (ticket, *_) = [*offered, *query.get("ticket", []), ""]
    return ticket if _TICKET.fullmatch(ticket) else ""
