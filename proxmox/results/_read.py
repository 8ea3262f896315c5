"""Reading Proxmox's JSON, in which numbers may be strings and anything but names may be missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

Row = Mapping[str, Any]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def row(data: object) -> Row:
    if not isinstance(data, Mapping):
        raise TypeError("an object was expected")
    return data


def rows(data: object) -> list[Row]:
    if not isinstance(data, list):
        raise TypeError("a list was expected")
    return [row(item) for item in data]


def text(data: Row, key: str) -> str | None:
    """The text under `key`; None when it is missing or empty."""
    value = data.get(key)
    return None if value in (None, "") else str(value)


def name(data: Row, key: str) -> str:
    """The text under `key`, without which the row means nothing: raises KeyError."""
    value = data[key]
    if not isinstance(value, str | int) or value == "":
        raise ValueError(f"{key} is empty")
    return str(value)


def integer(data: Row, key: str, default: int = 0) -> int:
    value = optional_integer(data, key)
    return default if value is None else value


def optional_integer(data: Row, key: str) -> int | None:
    value = data.get(key)
    if value is None or value == "":
        return None
    # Through int where it can: a float would round what is beyond 2**53.
    return int(value) if isinstance(value, int) or str(value).isdigit() else int(float(value))


def number(data: Row, key: str, default: float = 0.0) -> float:
    value = optional_number(data, key)
    return default if value is None else value


def optional_number(data: Row, key: str) -> float | None:
    value = data.get(key)
    return None if value is None or value == "" else float(value)


def flag(data: Row, key: str, *, default: bool = False) -> bool:
    value = data.get(key)
    if value is None or value == "":
        return default
    return value not in (0, "0", False, "off", "no", "false")


def words(value: object, separators: str = ";, ") -> frozenset[str]:
    """The words of a list that Proxmox writes as one text, in any order."""
    return frozenset(part for part in re.split(f"[{separators}]", str(value or "")) if part)


def size_bytes(value: str | None) -> int | None:
    """`3G`, `366K`, `4194304` in bytes; None for what is no size."""
    match = _SIZE.fullmatch(value or "")
    return int(float(match[1]) * _UNITS[match[2]]) if match else None


def properties(value: object, default_key: str = "") -> dict[str, str]:
    """`virtio=BC:24:…,bridge=vmbr0` taken apart; a part without `=` goes under `default_key`."""
    found: dict[str, str] = {}
    for part in _parts(str(value or "")):
        key, equals, rest = part.partition("=")
        if equals:
            found[key.strip()] = rest.strip()
        else:
            found.setdefault(default_key, part.strip())
    return found


def _parts(value: str) -> Iterable[str]:
    return (part for part in value.split(",") if part.strip())
