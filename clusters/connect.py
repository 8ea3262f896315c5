"""From a Cluster row to a Proxmox client: one a process and set of credentials, for all threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from django.conf import settings

from accounts import crypto
from clusters.measures import note_call
from clusters.models import Cluster
from proxmox import Client, Credentials, Password, Tls, Token, Unreachable

_clients: dict[int, tuple[tuple[object, ...], Client]] = {}
_lock = threading.Lock()


def connect(cluster: Cluster, *, call_s: float | None = None) -> Client:
    """The client for this cluster; a new one when its addresses or credentials have changed.

    `call_s` is the total deadline of a call that names none, ENGINE's own unless given.
    Raises as `new_client`.
    """
    call_s = settings.ENGINE["call_s"] if call_s is None else call_s
    key = (
        tuple(cluster.endpoints),
        cluster.user,
        cluster.token_id,
        cluster.sealed_secret,
        cluster.ca_pem,
        cluster.fingerprint,
        cluster.is_insecure,
        call_s,
    )
    with _lock:
        known = _clients.get(cluster.pk)
        if known is not None and known[0] == key:
            return known[1]
        client = new_client(cluster, timeout_s=call_s, on_call=note_call)
        # The former client is left to the turns that still hold it; its sockets go with them.
        _clients[cluster.pk] = (key, client)
        return client


class Misconfigured(Unreachable):
    """No client can be made of what is stored of a cluster: an operator has to mend its row."""


def new_client(cluster: Cluster, *endpoints: str, timeout_s: float, **more: Any) -> Client:
    """For these of its addresses, or for all.

    Raises crypto.Unsealable when the stored secret cannot be read with this IZVOR_SECRET_KEY, and
    Misconfigured.
    """
    try:
        return Client(
            endpoints or cluster.endpoints,
            credentials_of(cluster),
            tls=tls_of(cluster),
            timeout_s=timeout_s,
            **more,
        )
    except (ValueError, OSError) as error:
        raise Misconfigured(
            f"Izvor cannot use what it was told of {cluster}: {fault_of(error)}. Correct it in the "
            "admin, or in the environment that it comes from."
        ) from None


def fault_of(error: ValueError | OSError) -> str:
    """What is wrong with what a client was to be made of, for a person; without any secret."""
    if isinstance(error, OSError):
        return "the CA is no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----"
    return str(error)


def faults_of(cluster: Cluster, secret: str) -> Iterator[tuple[str, str]]:
    """Fields of a cluster of which no client can be made, each with what is wrong. `secret` is
    named so itself; "" is not looked at."""
    name = "token_id" if cluster.token_id else "user"
    checks: list[tuple[str, Callable[[], object]]] = [
        (name, lambda: credentials_with(cluster, "a-secret")),
        ("secret", lambda: credentials_with(cluster, secret or "a-secret")),
        ("fingerprint" if cluster.fingerprint else "ca_pem", lambda: tls_of(cluster).context()),
    ]
    told = set()
    for field, check in checks:
        try:
            check()
        except (ValueError, OSError) as error:
            if (why := fault_of(error)) not in told:
                told.add(why)
                yield field, why


def forget_clients() -> None:
    """Drop all clients: after a fork, and between tests."""
    with _lock:
        clients = [client for _, client in _clients.values()]
        _clients.clear()
    for client in clients:
        client.close()


def credentials_of(cluster: Cluster) -> Credentials:
    return credentials_with(cluster, crypto.unseal(cluster.sealed_secret))


def credentials_with(cluster: Cluster, secret: str) -> Credentials:
    """Raises ValueError."""
    if cluster.token_id:
        user, _, name = cluster.token_id.partition("!")
        return Token(user=user, token_id=name, secret=secret)
    return Password(user=cluster.user, password=secret)


def tls_of(cluster: Cluster) -> Tls:
    if cluster.is_insecure:
        return Tls.insecure()
    if cluster.fingerprint:
        return Tls.pinned(cluster.fingerprint)
    if cluster.ca_pem:
        return Tls.from_ca(cluster.ca_pem)
    return Tls.system()
