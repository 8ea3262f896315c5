"""Reading JSON bodies: nothing that the database or the answer could choke on gets past here."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from accounts.rest import is_storable

# Deeper than any body of ours, and far from where Python's own recursion ends.
DEPTH_MAX = 16
# What stands where a key was given twice; `check_values`, which comes by, knows the path to it.
TWICE = object()


class StrictJsonParser(BaseParser):
    """UTF-8, as RFC 8259 wants it. What is wrong with a text is said by its field."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        try:
            data = json.loads(
                stream.read().decode("utf-8"),
                parse_constant=refuse_constant,
                object_pairs_hook=object_of,
            )
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8.") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}") from None
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        check_values(data)
        return data


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """With TWICE for each key that is given more than once: one of its values would be ignored."""
    found = dict(pairs)
    if len(found) < len(pairs):
        times = Counter(key for key, _ in pairs)
        found |= {key: TWICE for key in found if times[key] > 1}
    return found


def check_values(data: Any, path: str = "", depth: int = 0) -> None:
    """Raises ValidationError for a text, also a key, that no database column could hold, and for a
    key that is given twice."""
    if depth > DEPTH_MAX:
        raise ParseError("The body is nested too deeply.")
    if data is TWICE:
        raise ValidationError({path: ["Give it once."]})
    if isinstance(data, str):
        if not is_storable(data):
            raise ValidationError({path: ["This text holds a NUL or half a character."]})
    elif isinstance(data, dict):
        for key, value in data.items():
            if not is_storable(key):
                raise ValidationError(
                    {path: [f"The name {key!a} holds a NUL or half a character."]}
                )
            check_values(value, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(data, list):
        for place, value in enumerate(data):
            check_values(value, f"{path}[{place}]", depth + 1)
