"""A VM's console: the link that opens it once, and what is asked of Proxmox when it is opened.

    minted ──within 60 s, by whoever holds the ticket──▶ opened ──▶ closed
       └────nobody came────▶ forgotten

A ticket is nothing but a random text. Redis knows its digest, for whom it was made and for which
VM, and forgets it by itself: with the first use, or after 60 s. A table would have to be swept, and
a ticket that is lost with Redis only costs another click. Proxmox's own ticket is asked for when
the console is opened (an unopened one dies there after 10 s), and never leaves the server.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import secrets
import ssl
import uuid
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import redis
from django.conf import settings
from django.utils import timezone

from accounts.actors import Actor
from accounts.models import ApiToken, Project
from accounts.people import actor_of_person, is_person
from events.models import record_event
from operations.refusals import NotAllowed, NotFound, Unavailable
from proxmox.results import VncTicket
from vms import observe, preflight
from vms.models import VirtualMachine
from vms.refresh import READ_S, find_itself

PAGE, SOCKET = "/console", "/console/websocket"


@dataclass(frozen=True)
class Link:
    """A ticket while it can be told: only its digest is kept."""

    ticket: str = field(repr=False)
    expires_at: datetime.datetime


@dataclass(frozen=True)
class Visit:
    """Who has come with a ticket, and to which VM."""

    vm: VirtualMachine
    by: Actor
    # What the ticket stood for.
    kept: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Opening:
    """What opens the screen, for `proxmox.screen.open_screen`."""

    vnc: VncTicket = field(repr=False)
    tls: ssl.SSLContext = field(repr=False)


def mint_link(*, vm: VirtualMachine, by: Actor) -> Link:
    """A link that shows the VM's screen and takes keys for it, once. Raises operations.refusals."""
    if not by.may_write:
        raise NotAllowed("not_allowed", "A viewer cannot open consoles: they also take keys.")
    preflight.check_console(vm)
    ticket = secrets.token_urlsafe(32)
    lives_s = settings.CONSOLE["ticket_s"]
    expires_at = timezone.now() + datetime.timedelta(seconds=lives_s)
    kept = {
        "vm": str(vm.uuid),
        "name": by.name,
        "role": by.role,
        "project": by.project.pk if by.project else None,
        "token": by.token_id,
    }
    try:
        with _redis() as client:
            client.set(_key(ticket), json.dumps(kept), px=int(lives_s * 1000), nx=True)
    except redis.RedisError:
        raise Unavailable("redis_unavailable", "Izvor's Redis cannot be reached now.") from None
    _record("minted", Visit(vm, by, kept))
    return Link(ticket, expires_at)


def link_body(link: Link, origin: str) -> dict[str, Any]:
    """The answer of the API. In the page's address the ticket stands behind the #, which browsers
    send to nobody; programs get it in the websocket's."""
    here = urlsplit(origin)
    is_tls = here.scheme == "https"
    return {
        "type": "vnc",
        "url": page_address(link, origin),
        "websocket_url": f"{'wss' if is_tls else 'ws'}://{here.netloc}{SOCKET}?ticket={link.ticket}",
        "host": here.hostname,
        "port": here.port or (443 if is_tls else 80),
        "ticket": link.ticket,
        # The relay logs in to VNC itself.
        "password": None,
        "expires_at": link.expires_at,
    }


def page_address(link: Link, origin: str = "") -> str:
    return f"{origin}{PAGE}#{link.ticket}"


def redeem(ticket: str) -> Visit:
    """Use the ticket up. Raises NotFound for one that is unknown, used or expired, or whose holder
    has lost the right to the VM meanwhile, Unavailable."""
    try:
        with _redis() as client:
            kept = client.getdel(_key(ticket)) if ticket else None
    except redis.RedisError:
        raise Unavailable("redis_unavailable", "Izvor's Redis cannot be reached now.") from None
    visit = _visit(json.loads(kept)) if kept else None
    if visit is None:
        raise NotFound("ticket_unknown", "This link was used already, or has expired.")
    return visit


def is_still_theirs(visit: Visit) -> bool:
    """Whether the ticket, were it used now, would still open this VM for them."""
    return _visit(visit.kept) is not None


def ask_for_screen(vm: VirtualMachine) -> Opening:
    """Ask Proxmox for the screen of this very VM, wherever it runs now.

    Raises operations.refusals, ProxmoxError.
    """
    client = preflight.client_of(vm.cluster)
    find_itself(vm, client)
    status = client.guest_status(vm.node, vm.vmid, timeout_s=READ_S)
    observe.save(vm, observe.status_values(status))
    preflight.check_shown(vm)
    return Opening(client.vncproxy(vm.node, vm.vmid, timeout_s=READ_S), client.tls.context())


def record_opened(visit: Visit) -> None:
    _record("opened", visit, node=visit.vm.node)


def record_closed(visit: Visit, *, seconds: float, why: str, shown: int, typed: int) -> None:
    """`shown` and `typed` count the bytes to and from the browser."""
    traffic = {"bytes_shown": shown, "bytes_typed": typed}
    _record("closed", visit, seconds=round(seconds, 1), why=why, **traffic)


def _record(what: str, visit: Visit, **data: Any) -> None:
    vm = visit.vm
    record_event(
        f"console.{what}",
        by=visit.by,
        project_id=vm.project_id,
        subject=vm.uuid,
        label=str(vm),
        **data,
    )


def _visit(kept: dict[str, Any]) -> Visit | None:
    by = _holder(kept)
    if by is None or not by.may_write:
        return None
    visible = VirtualMachine.objects.visible_to(by).select_related("cluster")
    vm = visible.filter(uuid=uuid.UUID(kept["vm"])).first()
    return Visit(vm, by, kept) if vm else None


def _holder(kept: dict[str, Any]) -> Actor | None:
    """Who minted it, while their API token is good, or the admin lets them do such things."""
    if kept["token"] is not None:
        token = ApiToken.objects.usable().filter(pk=kept["token"]).first()
        return token.as_actor() if token else None
    if is_person(kept["name"]):
        return actor_of_person(kept["name"])
    project = Project.objects.filter(pk=kept["project"]).first()
    return Actor(name=kept["name"], role=kept["role"], project=project)


def _key(ticket: str) -> str:
    # It carries 256 random bits, so a plain digest cannot be searched.
    return f"{settings.REDIS_PREFIX}:console:{hashlib.sha256(ticket.encode()).hexdigest()}"


def _redis() -> redis.Redis:
    url: str = settings.REDIS_URL
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
