"""JSON that Postgres writes: rows go into an answer as they come.

To read forty values of a row and write them again takes Python longer than all else in a list
(docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import DecimalField, Func, IntegerField, JSONField, TextField, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import NullIf

# Of these the text is JSON.
PLAIN = (IntegerField, DecimalField, JSONField)


class Json(Func):
    """A JSON object, as its text, with these members."""

    def __init__(self, members: Mapping[str, str | Combinable]) -> None:
        super().__init__(*members.values(), output_field=TextField())
        self.names = tuple(members)

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        parts: list[str] = []
        params: list[Any] = []
        for name, one in zip(self.names, self.get_source_expressions(), strict=True):
            sql, own = compiler.compile(one)
            before = "," if parts else "{"
            if one.output_field.null or not isinstance(one.output_field, PLAIN):
                # It finds out anew what it is given, each time.
                sql = f"coalesce(to_json({sql}), 'null')"
            parts.append(f"""'{before}"{name}":', {sql}""")
            params += own
        # Sooner than json_build_object, and without its spaces. It writes all as text by itself.
        return f"concat({', '.join(parts)}, '}}')", params


def unless_empty(field: str | Combinable) -> Combinable:
    return NullIf(field, Value(""), output_field=TextField())


def moment(field: str | Combinable) -> Combinable:
    """As RFC 3339 has it."""
    text = """left(to_json((%(expressions)s) AT TIME ZONE 'UTC')::text, -1) || 'Z"'"""
    return Func(field, template=f"coalesce({text}, 'null')", output_field=JSONField())
