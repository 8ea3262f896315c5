"""The cluster that PROXMOX_URL names, as a row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction

from accounts import crypto
from clusters.connect import new_client
from clusters.identity import Identity, identify
from clusters.models import Cluster
from events.models import record_event
from proxmox import ProxmoxError

# The values that follow the environment; the secret does too.
FOLLOWS = (
    "endpoints",
    "user",
    "token_id",
    "ca_pem",
    "fingerprint",
    "is_insecure",
    "preferred_node",
)


def register_from_environment() -> Cluster | None:
    """Make or update the row for PROXMOX_URL; None when it is not set.

    The row is found by the cluster's own identity, else (while it is silent) by its address:
    another cluster behind PROXMOX_URL makes another row, and the former is left alone from then on.
    """
    env = settings.PROXMOX
    if not env["url"]:
        return None
    wanted = values_from(env)
    draft = Cluster(**wanted)
    try:
        seen = identify(new_client(draft, timeout_s=5))
    except (ProxmoxError, crypto.Unsealable):
        seen = None
    with transaction.atomic():
        Cluster.objects.filter(is_from_environment=True).update(is_enabled=False)
        cluster = find_row(wanted, seen)
        if cluster is None:
            name = free_name(
                seen.name if seen else urlsplit(draft.endpoints[0]).hostname or "proxmox"
            )
            cluster = Cluster(name=name)
        is_new, before = cluster.pk is None, {name: getattr(cluster, name) for name in FOLLOWS}
        # Sealed anew it reads differently: only another secret is a change.
        same_secret = not is_new and holds_secret(cluster, draft.secret)
        for name, value in wanted.items():
            setattr(cluster, name, value)
        cluster.is_enabled = True
        cluster.save()
        changed = [name for name in FOLLOWS if getattr(cluster, name) != before[name]]
        changed += [] if same_secret else ["secret"]
        if changed:
            record_event(
                "cluster.created" if is_new else "cluster.changed",
                by="izvor",
                subject=cluster.uuid,
                label=cluster.name,
                changed=changed,
            )
    return cluster


def holds_secret(cluster: Cluster, plain: str) -> bool:
    try:
        return cluster.secret == plain
    except crypto.Unsealable:
        return False


def values_from(env: dict[str, Any]) -> dict[str, Any]:
    """Raises ImproperlyConfigured for what cannot work."""
    endpoints = [endpoint(url.strip()) for url in env["url"].split(",") if url.strip()]
    if not endpoints:
        raise ImproperlyConfigured("PROXMOX_URL names no address.")
    secret = env["token_secret"] if env["token_id"] else env["password"]
    if env["token_id"] and "!" not in env["token_id"]:
        env = {**env, "token_id": f"{env['user']}!{env['token_id']}"}
    if not secret:
        raise ImproperlyConfigured(
            "PROXMOX_URL is set, but neither PROXMOX_PASSWORD nor PROXMOX_TOKEN_ID with "
            "PROXMOX_TOKEN_SECRET."
        )
    return {
        "kind": env["kind"],
        "endpoints": endpoints,
        "user": env["token_id"].partition("!")[0] or env["user"],
        "token_id": env["token_id"],
        "sealed_secret": crypto.seal(secret),
        "ca_pem": read_ca(env["ca_file"]),
        "fingerprint": env["fingerprint"],
        "is_insecure": env["is_insecure"],
        "preferred_node": env["node"],
        "is_from_environment": True,
    }


def endpoint(url: str) -> str:
    """`https://HOST:PORT`. A user or a password has no place in it, and is not repeated."""
    try:
        parts = urlsplit(url if "//" in url else f"//{url}", scheme="https")
        port = parts.port or 8006
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        shown = "with credentials in it" if "@" in url else repr(url)
        raise ImproperlyConfigured(
            f"PROXMOX_URL must be like https://pve.example.org:8006, not {shown}."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"https://{host}:{port}"


def read_ca(path: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"PROXMOX_CA_FILE {path} cannot be read: {error}.") from None


def find_row(wanted: dict[str, Any], seen: Identity | None) -> Cluster | None:
    same_kind = Cluster.objects.filter(kind=wanted["kind"])
    if seen is None:
        return same_kind.filter(endpoints__overlap=wanted["endpoints"]).first()
    known = same_kind.filter(pve_name=seen.name)
    if seen.ca_fingerprint:
        known = known.filter(ca_fingerprint__in=[seen.ca_fingerprint, ""])
    never_seen = same_kind.filter(pve_name="", endpoints__overlap=wanted["endpoints"])
    return known.first() or never_seen.first()


def free_name(wanted: str) -> str:
    base = re.sub(r"[^a-z0-9-]+", "-", wanted.lower()).strip("-")[:50] or "proxmox"
    taken = set(Cluster.objects.values_list("name", flat=True))
    numbered = (f"{base}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (base, *numbered) if name not in taken)
