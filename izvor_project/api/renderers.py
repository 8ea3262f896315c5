"""JSON for answers, by orjson: a list of a thousand VMs is mostly the writing of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from rest_framework.renderers import BaseRenderer


def plain(value: Any) -> Any:
    """What orjson does not know and DRF's errors are made of: lazy texts, `ReturnDict`, tuples."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return str(value)


def dumps(data: Any) -> bytes:
    """Times in UTC end in Z, as RFC 3339 has it."""
    return orjson.dumps(data, default=plain, option=orjson.OPT_UTC_Z)


class JsonRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        return b"" if data is None else dumps(data)
