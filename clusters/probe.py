"""Can Izvor work with this cluster? Asked by a person; changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from accounts.crypto import Unsealable
from clusters.connect import Misconfigured, new_client
from clusters.identity import Identity, identify
from clusters.models import Cluster
from clusters.privileges import lacking, needs_of
from proxmox import Client, Forbidden, ProxmoxError, Unreachable

# A person waits, and an address may be silent. A wrong token takes Proxmox 3 s to say so.
READ_S = 5.0


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is good news. None of them holds a secret."""

    is_good: bool
    text: str


def probe(cluster: Cluster) -> list[Finding]:
    """What is reachable, which cluster it is, and which privileges are missing on which paths."""
    return list(_findings(cluster))


def _findings(cluster: Cluster) -> Iterator[Finding]:
    try:
        clients = {
            endpoint: new_client(cluster, endpoint, timeout_s=READ_S)
            for endpoint in cluster.endpoints
        }
    except (Unsealable, Misconfigured) as error:
        yield Finding(False, str(error))
        return
    answering: Client | None = None
    for endpoint, client in clients.items():
        try:
            version = client.version(timeout_s=READ_S)
            yield Finding(True, f"{endpoint} answers: Proxmox VE {version.version}.")
            yield from _identity(cluster, client)
            answering = answering or client
        except Unreachable as error:
            yield Finding(False, f"{endpoint} cannot be reached: {error}")
        except ProxmoxError as error:
            yield Finding(False, f"{endpoint} refuses {who(cluster)}: {error}")
    if cluster.is_insecure:
        yield Finding(False, "TLS is not checked: anyone on the way could read and change all.")
    if answering is not None:
        yield from _privileges(cluster, answering)


def _identity(cluster: Cluster, client: Client) -> Iterator[Finding]:
    try:
        seen = identify(client, timeout_s=READ_S)
    except Forbidden:
        return  # named below, with the other privileges
    yield compared(cluster, seen)


def compared(cluster: Cluster, seen: Identity) -> Finding:
    nodes = ", ".join(seen.nodes)
    if not cluster.pve_name:
        return Finding(True, f"It is {seen.name!r} with the nodes {nodes}, not seen before.")
    same_ca = not (seen.ca_fingerprint and cluster.ca_fingerprint) or (
        seen.ca_fingerprint == cluster.ca_fingerprint
    )
    if seen.name == cluster.pve_name and same_ca:
        return Finding(True, f"It is {seen.name!r} with the nodes {nodes}, as before.")
    what = "its name" if seen.name != cluster.pve_name else "its CA"
    return Finding(
        False,
        f"It is another cluster than the one whose rows these are: {what} differs "
        f"({seen.name!r} instead of {cluster.pve_name!r}).",
    )


def _privileges(cluster: Cluster, client: Client) -> Iterator[Finding]:
    try:
        granted = client.permissions(timeout_s=READ_S)
        major = client.version(timeout_s=READ_S).major
    except ProxmoxError as error:
        yield Finding(False, f"{who(cluster)} cannot ask for its own rights: {error}")
        return
    lacks = lacking(granted, major)
    if not lacks:
        needed = len(needs_of(major))
        yield Finding(True, f"{who(cluster)} has all {needed} privileges that Izvor needs.")
    for lack in lacks:
        yield Finding(False, f"{who(cluster)} lacks a privilege: {lack}.")


def who(cluster: Cluster) -> str:
    return cluster.token_id or cluster.user
