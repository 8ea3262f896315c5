"""From a Cluster row to a Proxmox client: one a process and set of credentials, for all threads."""

from __future__ import annotations

import threading

from django.conf import settings

from accounts import crypto
from clusters.measures import note_call
from clusters.models import Cluster
from proxmox import Client, Credentials, Password, Tls, Token

_clients: dict[int, tuple[tuple[object, ...], Client]] = {}
_lock = threading.Lock()


def connect(cluster: Cluster, *, call_s: float | None = None) -> Client:
    """The client for this cluster; a new one when its addresses or credentials have changed.

    `call_s` is the total deadline of a call that names none, ENGINE's own unless given.
    Raises crypto.Unsealable when the stored secret cannot be read with this IZVOR_SECRET_KEY.
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
        client = Client(
            cluster.endpoints,
            credentials_of(cluster),
            tls=tls_of(cluster),
            timeout_s=call_s,
            on_call=note_call,
        )
        # The former client is left to the turns that still hold it; its sockets go with them.
        _clients[cluster.pk] = (key, client)
        return client


def forget_clients() -> None:
    """Drop all clients: after a fork, and between tests."""
    with _lock:
        clients = [client for _, client in _clients.values()]
        _clients.clear()
    for client in clients:
        client.close()


def credentials_of(cluster: Cluster) -> Credentials:
    secret = crypto.unseal(cluster.sealed_secret)
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
