"""Reading the environment: each reader returns a checked value or fails with one sentence."""

import ipaddress
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

env = environ.Env()


def text(name: str, default: str = "") -> str:
    return str(env.str(name, default=default)).strip()


def secret(name: str, default: str = "") -> str:
    """Like `text`, but kept to the letter: a password may end in a space."""
    return str(env.str(name, default=default))


def flag(name: str, default: bool) -> bool:
    raw = text(name, "true" if default else "false").lower()
    if raw in {"1", "true", "yes", "on"}:
        return True
    if raw in {"0", "false", "no", "off", ""}:
        return False
    raise ImproperlyConfigured(f"{name} must be true or false, not {raw!r}.")


def integer(name: str, default: int, low: int, high: int) -> int:
    raw = text(name, str(default)) or str(default)
    try:
        value = int(raw)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {raw!r}.") from None
    if not low <= value <= high:
        raise ImproperlyConfigured(f"{name} must be between {low} and {high}, not {value}.")
    return value


def choice(name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = text(name, default) or default
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def words(name: str) -> list[str]:
    """A comma-separated list, blanks dropped."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """A comma-separated list of addresses and networks, e.g. 10.1.2.3,192.168.0.0/16."""
    try:
        return [ipaddress.ip_network(word) for word in words(name)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must list networks: {error}.") from None


def required(name: str, why: str) -> str:
    value = secret(name)
    if not value.strip():
        raise ImproperlyConfigured(f"{name} is not set. {why}")
    return value


def database(name: str, why: str) -> dict[str, Any]:
    """Django's database settings from a postgres:// address, which no error repeats."""
    try:
        parts = urlsplit(required(name, why))
        is_ours = parts.scheme in {"postgres", "postgresql"} and parts.port != 0
    except ValueError:
        is_ours = False
    if not is_ours:
        raise ImproperlyConfigured(f"{name} must be a postgres:// address: Izvor needs Postgres.")
    return dict(env.db(name))


def is_loopback(host: str) -> bool:
    """True for 127.0.0.0/8, also as a dual-stack socket shows it, ::1 and the name localhost."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def redis_urls(url: str) -> tuple[str, str]:
    """The same server as redis-py and as Celery spell it: they differ for Unix sockets."""
    parts = urlsplit(url)
    if parts.scheme in {"redis", "rediss"}:
        try:
            parts.port  # noqa: B018 (raises for what is no port)
        except ValueError:
            raise ImproperlyConfigured("REDIS_URL names a port that is none.") from None
        return url, url
    if parts.scheme == "unix":
        database = parts.query.removeprefix("db=") or "0"
        path = unquote(parts.path)
        return (
            f"unix://{quote(path)}?db={database}",
            f"redis+socket://{quote(path)}?virtual_host={database}",
        )
    raise ImproperlyConfigured(
        "REDIS_URL must start with redis://, rediss:// or unix://, "
        f"not {parts.scheme or 'nothing'}."
    )
