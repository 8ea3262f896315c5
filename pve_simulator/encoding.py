"""Dataclasses as JSON and back, and copies of large states that are cheap to take.

Encoding a world of ten thousand guests takes a while, in which nobody would be answered. So a save
first takes a `Frozen` of the world: fast, since it copies references and the few containers
that change in place. The text is made from that piece by piece, whatever happens to the world in
the meantime.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import types
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Union, get_args, get_origin, get_type_hints

import orjson

from .world import Config

_FLAT = (Config, list[str], set[str], set[int])
"""Containers of plain values: their shallow copy is a full one."""
_PIECE = 200
"""Objects a piece of text: a millisecond's work."""


@contextmanager
def no_collection() -> Iterator[None]:
    """Making very many objects at once would set off collections that find nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Frozen:
    """Many objects of one dataclass, by key, as they were at this moment."""

    def __init__(self, kind: type, objects: dict[Any, Any]) -> None:
        self.keys = list(objects)
        hints = _hints(kind)
        self._names = list(hints)
        take: Callable[[Any], tuple[Any, ...]] = attrgetter(*self._names)
        copied = [
            (index, hint in _FLAT) for index, hint in enumerate(hints.values()) if _is_mutable(hint)
        ]
        if not copied:
            self._rows: list[Any] = [take(item) for item in objects.values()]
            return
        self._rows = []
        for item in objects.values():
            row = list(take(item))
            for index, is_flat in copied:
                value = row[index]
                row[index] = encode(value) if value and not is_flat else value.copy()
            self._rows.append(row)

    def pieces(self) -> Iterator[bytes]:
        """The JSON object of all, as text to be joined; a piece is little work."""
        yield b"{"
        for start in range(0, len(self.keys), _PIECE):
            part = {
                _key(key): dict(zip(self._names, row, strict=True))
                for key, row in zip(
                    self.keys[start : start + _PIECE],
                    self._rows[start : start + _PIECE],
                    strict=True,
                )
            }
            yield (b"," if start else b"") + dump(part)[1:-1]
        yield b"}"


def _is_mutable(hint: Any) -> bool:
    return get_origin(hint) in (dict, list, set)


def encode(value: Any) -> Any:
    """Dataclasses, sets, tuple keys and bytes as JSON."""
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {_key(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(encode(item) for item in value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value


def dump(value: Any) -> bytes:
    """As JSON, by `encode` what JSON does not know."""
    return orjson.dumps(value, default=encode, option=orjson.OPT_PASSTHROUGH_DATACLASS)


def _key(key: Any) -> str:
    return "\0".join(key) if isinstance(key, tuple) else str(key)


def decode(kind: Any, value: Any) -> Any:
    """The inverse of `encode`, led by type hints."""
    origin = get_origin(kind)
    if value is None or kind is Any:
        return value
    if origin in (Union, types.UnionType):
        inner = [choice for choice in get_args(kind) if choice is not type(None)]
        return decode(inner[0], value)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = _hints(kind)
        known = {name: item for name, item in value.items() if name in hints}
        return kind(**{name: decode(hints[name], item) for name, item in known.items()})
    if origin is dict:
        key_kind, item_kind = get_args(kind)
        return {_decode_key(key_kind, key): decode(item_kind, v) for key, v in value.items()}
    if origin in (list, set):
        return origin(decode(get_args(kind)[0], item) for item in value)
    if kind is bytes:
        return base64.b64decode(value)
    return value


_HINTS: dict[type, dict[str, Any]] = {}


def _hints(kind: type) -> dict[str, Any]:
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind, None, vars(typing))
    return _HINTS[kind]


def _decode_key(kind: Any, key: str) -> Any:
    if kind is int:
        return int(key)
    return tuple(key.split("\0")) if get_origin(kind) is tuple else key
