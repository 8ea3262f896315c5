"""Where a webhook may go: the public Internet, and what this installation's operators allow.

A name is resolved once, each of its addresses is checked, and the connection is made to a checked
address, not to the name: a name that changes its address in between gains nothing by it.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TookTooLong
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LABEL = r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*\.?")

# IPv4 inside IPv6, which a router on the way may turn back into it (RFC 6052).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Private ones that not every Python's `is_global` knows: a network's own NAT64, and site-local.
_ALSO_PRIVATE = [ipaddress.ip_network(net) for net in ("64:ff9b:1::/48", "fec0::/10")]
# The system's resolver knows no deadline; whoever waits for it does. A lookup that hangs keeps its
# thread, so there are many: one project's dead names are not to hold up the others' deliveries.
_resolvers = ThreadPoolExecutor(max_workers=32, thread_name_prefix="resolver")


class Unusable(Exception):
    """A webhook's address is none, or lies where webhooks may not go; the message says which."""


@dataclass(frozen=True)
class Target:
    """A webhook's URL, taken apart."""

    is_tls: bool
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


def parse_url(url: str) -> Target:
    """Raises Unusable; also for an address in numbers that webhooks may not go to."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Unusable("This is not a URL.") from None
    if parts.scheme not in {"http", "https"} or not host:
        raise Unusable("Give a URL like https://example.org/hook.")
    if not url.isascii() or any(char <= " " or char == "\x7f" for char in url):
        raise Unusable("A URL has no blanks and no letters beyond ASCII; encode them.")
    if "@" in parts.netloc:
        raise Unusable("Leave user and password out: each delivery is signed.")
    if parts.fragment:
        raise Unusable("A URL's fragment (#…) is never sent; leave it out.")
    if port == 0:
        raise Unusable("Port 0 is none.")
    is_tls = parts.scheme == "https"
    path = parts.path or "/"
    target = Target(
        is_tls=is_tls,
        host=host,
        port=port or (443 if is_tls else 80),
        path=f"{path}?{parts.query}" if parts.query else path,
    )
    number = as_number(host)
    if number is not None:
        refuse_forbidden(host, [number])
    elif len(host) > 253 or not _NAME.fullmatch(host):
        raise Unusable(f"{host[:60]} cannot be the name of a host.")
    return target


def as_number(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def resolve(target: Target, *, timeout_s: float) -> list[Address]:
    """The target's addresses that webhooks may go to. Raises Unusable, TimeoutError, OSError."""
    number = as_number(target.host)
    if number is not None:
        return refuse_forbidden(target.host, [number])
    asked = _resolvers.submit(socket.getaddrinfo, target.host, target.port, type=socket.SOCK_STREAM)
    try:
        found = asked.result(timeout_s)
    except TookTooLong:
        asked.cancel()
        raise TimeoutError(f"{target.host} could not be resolved in time") from None
    # A scope (fe80::1%eth0) is of a link-local address, which is refused as such.
    texts = dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found)
    return refuse_forbidden(target.host, [ipaddress.ip_address(text) for text in texts])


def refuse_forbidden(host: str, addresses: list[Address]) -> list[Address]:
    """The allowed ones of these. Raises Unusable when none is."""
    allowed = [address for address in addresses if is_allowed(address)]
    if not allowed:
        shown = ", ".join(str(address) for address in addresses) or "nothing"
        at = "" if shown == host else f" is at {shown}, which"
        raise Unusable(
            f"{host}{at} is not a public address; webhooks go to others only if "
            "IZVOR_WEBHOOK_ALLOW names them."
        )
    return allowed


def is_allowed(address: Address) -> bool:
    meant = embedded_v4(address) or address
    if settings.WEBHOOKS["allow_private"] or any(
        meant in network for network in settings.WEBHOOKS["allowed"]
    ):
        return not (meant.is_multicast or meant.is_unspecified)
    return is_public(meant)


def is_public(address: Address) -> bool:
    """Not private, loopback, link-local (cloud metadata too), shared, reserved or multicast."""
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    return not any(address in network for network in _ALSO_PRIVATE)


def embedded_v4(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
