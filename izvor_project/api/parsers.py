"""Reading JSON bodies: nothing that the database or the answer could choke on gets past here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import BaseParser

from accounts.rest import is_storable

# Deeper than any body of ours, and far from where Python's own recursion ends.
DEPTH_MAX = 16


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
            data = json.loads(stream.read().decode("utf-8"), parse_constant=refuse_constant)
        except UnicodeDecodeError:
            raise ParseError("The body is not UTF-8.") from None
        except ValueError as error:
            raise ParseError(f"The body is not JSON: {error}") from None
        except RecursionError:
            raise ParseError("The body is nested too deeply.") from None
        check_texts(data)
        return data


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON value")


def check_texts(data: Any, path: str = "", depth: int = 0) -> None:
    """Raises ValidationError for a text, also a key, that no database column could hold."""
    if depth > DEPTH_MAX:
        raise ParseError("The body is nested too deeply.")
    if isinstance(data, str):
        if not is_storable(data):
            raise ValidationError({path: ["This text holds a NUL or half a character."]})
    elif isinstance(data, dict):
        for key, value in data.items():
            if not is_storable(key):
                raise ValidationError(
                    {path: [f"The name {key!a} holds a NUL or half a character."]}
                )
            check_texts(value, f"{path}.{key}" if path else key, depth + 1)
    elif isinstance(data, list):
        for place, value in enumerate(data):
            check_texts(value, f"{path}[{place}]", depth + 1)
