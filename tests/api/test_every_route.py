"""Bad input to every route, made from the table of routes and the API's own description.

A new route, and a new field of a body, cannot escape: each is asked with whatever it does not take.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.db import transaction
from django.db.models import Model
from drf_spectacular.generators import SchemaGenerator

from tests.api.shapes import Caller, fields_of, problem_of
from tests.api.table import API, ROWS, Row
from tests.api.wrong import HOSTILE

pytestmark = pytest.mark.django_db

TAKING = [row for row in ROWS if row.body is not None]
BARE = [row for row in ROWS if row.body is None and row.method != "GET"]
# Parameters that may be given several times.
LISTS = {"tag", "type"}
NOWHERE = "11111111-2222-4333-8444-555555555555"
# By the JSON type of a schema, the values that are of it; an integer is a number too.
VALUES: dict[str, list[Any]] = {
    "null": [None],
    "boolean": [True],
    "integer": [7],
    "number": [1.5],
    "string": ["x"],
    "array": [["x"]],
    "object": [{"x": 1}],
}


def named(row: Row) -> str:
    return f"{row.method} {row.path}"


@pytest.fixture
def untouched(things, sim) -> Iterator[dict[str, str]]:
    """What is ours of each kind; no row of any table comes, goes or changes, and no call either."""
    before = everything()
    sim.forget_calls()
    yield things["own"]
    assert everything() == before
    assert [call for call in sim.calls if call.method != "GET"] == []


def everything() -> dict[str, list[Any]]:
    ours = ("accounts", "events", "operations", "clusters", "vms", "templates_app", "inventory")
    return {
        model._meta.label: list(model._default_manager.order_by("pk").values(*kept(model)))
        for model in apps.get_models()
        if model._meta.app_label in ours
    }


def kept(model: type[Model]) -> list[str]:
    """Its columns, without the one that tells when a token asked last."""
    names = {field.attname for field in model._meta.concrete_fields}
    return sorted(names - {"last_used_at"})


def ask(caller: Caller, row: Row, own: dict[str, str], body: Any = None, query: str = "") -> Any:
    return caller.ask(row.method, API + row.path.format(**own) + query, body)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_an_unknown_parameter_is_named(row, operator_calls, untouched):
    answer = ask(operator_calls, row, untouched, row.body, "?surprise=1")
    assert fields_of(problem_of(answer, 400)) == ["surprise"]


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_parameter_that_is_given_twice_is_named(row, operator_calls, untouched):
    for name in params_of(row) - LISTS:
        answer = ask(operator_calls, row, untouched, row.body, f"?{name}=1&{name}=1")
        body = problem_of(answer, 400)
        assert body["errors"] == [{"field": name, "message": "Give it once."}]


def test_every_list_comes_in_pages(operator_calls, things):
    for row in filter(is_list, ROWS):
        path = API + row.path.format(**things["own"])
        whole = operator_calls.get(path).json()
        key, url, seen = next(iter(whole)), f"{path}?limit=1", []
        while url:
            page = operator_calls.get(url).json()
            assert (len(page[key]), page["count"]) == (min(1, page["count"]), whole["count"]), row
            seen += page[key]
            url = page["next"]
        assert seen == whole[key], row
        for query in ("limit=0", "limit=x", "cursor=x", "cursor=W10", "cursor=W10x"):
            body = problem_of(operator_calls.get(f"{path}?{query}"), 400)
            assert fields_of(body) == [query.partition("=")[0]]


@pytest.mark.parametrize("row", TAKING, ids=named)
def test_an_unknown_field_is_named(row, operator_calls, untouched):
    answer = ask(operator_calls, row, untouched, {**row.body, "surprise": 1})
    assert "surprise" in fields_of(problem_of(answer, 400))


@pytest.mark.parametrize("row", BARE, ids=named)
def test_a_body_where_none_is_taken_is_refused(row, operator_calls, untouched):
    answer = ask(operator_calls, row, untouched, {"surprise": 1})
    assert fields_of(problem_of(answer, 400)) == ["surprise"]
    for body in (b"{", b"[]", b"null", b"7", b'{"a": 1, "a": 1}'):
        problem_of(ask(operator_calls, row, untouched, body), 400)


def test_an_empty_object_is_no_body(operator_calls):
    assert operator_calls.ask("DELETE", f"{API}/sizes/small", {}).status_code == 204


@pytest.mark.parametrize("row", TAKING, ids=named)
def test_a_body_that_is_none_is_refused(row, operator_calls, untouched):
    for body in (b"{", b"[]", b"null", b'"x"', b"7", b"\xff", b'{"a":' * 50_000):
        problem_of(ask(operator_calls, row, untouched, body), 400)
    huge = json.dumps({**row.body, "description": "x" * 1024 * 1024}).encode()
    problem_of(ask(operator_calls, row, untouched, huge), 413)
    path = API + row.path.format(**untouched)
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        body = json.dumps(row.body).encode()
        problem_of(operator_calls.ask(row.method, path, body, content_type=kind), 415, "not_json")


@pytest.mark.parametrize("row", [row for row in ROWS if "{" in row.path], ids=named)
def test_what_is_not_there_is_a_404(row, operator_calls, untouched):
    for text in (NOWHERE, *HOSTILE):
        raw = "%ED%A0%80" if text.startswith(("\ud800", "\udfff")) else quote(text, safe="")
        elsewhere = dict.fromkeys(untouched, raw)
        # The last one wrong and those before it right is another question than all of them wrong.
        last = row.path.rpartition("{")[2].partition("}")[0]
        for ids in (elsewhere, {**untouched, last: raw}):
            answer = ask(operator_calls, row, ids, row.body)
            # `.` and `..` are taken out of a path, and lead to another route.
            assert answer.status_code in ({404, 405} if set(text) <= {"."} else {404}), ascii(text)
            problem_of(answer, answer.status_code)


@pytest.mark.parametrize("row", TAKING, ids=named)
def test_a_field_of_another_type_is_named(row, operator_calls, untouched):
    wrong: list[tuple[Any, ...]] = []
    fields = body_schema(row)
    assert fields, "the description says nothing of this body"
    for name, schema in fields.items():
        for value in values_not_of(schema):
            with transaction.atomic():
                answer = ask(operator_calls, row, untouched, {**row.body, name: value})
                transaction.set_rollback(True)
            if answer.status_code != 400:
                wrong.append((name, value, answer.status_code, answer.content[:200]))
            elif not any(field.startswith(name) for field in fields_of(problem_of(answer, 400))):
                wrong.append((name, value, fields_of(json.loads(answer.content))))
    assert not wrong


@pytest.mark.parametrize("row", TAKING, ids=named)
def test_a_text_that_is_too_long_is_named(row, operator_calls, untouched):
    for name, schema in body_schema(row).items():
        if "maxLength" in schema:
            text = "x" * (schema["maxLength"] + 1)
            answer = ask(operator_calls, row, untouched, {**row.body, name: text})
            assert name in fields_of(problem_of(answer, 400)), name


@pytest.mark.parametrize("row", TAKING, ids=named)
def test_a_number_out_of_bounds_is_named(row, operator_calls, untouched):
    for name, schema in body_schema(row).items():
        beyond = [schema["minimum"] - 1] if "minimum" in schema else []
        beyond += [schema["maximum"] + 1, 10**30] if "maximum" in schema else []
        for number in beyond:
            answer = ask(operator_calls, row, untouched, {**row.body, name: number})
            assert name in fields_of(problem_of(answer, 400)), (name, number)


# --- the description ---


@cache
def description() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


def described(row: Row) -> dict[str, Any]:
    """What the description says of this route; `/vms/sizes` is no `/vms/{id}`."""
    paths = [path for path in description()["paths"] if is_of(path.removeprefix(API), row.path)]
    exact = min(paths, key=lambda path: path.count("{"))
    operation: dict[str, Any] = description()["paths"][exact][row.method.lower()]
    return operation


def is_list(row: Row) -> bool:
    """Whether its answer has a `next`."""
    answers = described(row)["responses"].get("200", {}).get("content", {})
    return "next" in answers.get("application/json", {}).get("schema", {}).get("properties", {})


def params_of(row: Row) -> set[str]:
    """What it says may be in the query."""
    params = described(row).get("parameters", [])
    return {param["name"] for param in params if param["in"] == "query"}


def body_schema(row: Row) -> dict[str, dict[str, Any]]:
    """What the description says of each field of this route's body."""
    body = resolved(described(row)["requestBody"]["content"]["application/json"]["schema"])
    return {
        name: resolved(schema)
        for name, schema in body["properties"].items()
        if not schema.get("readOnly")
    }


def is_of(path: str, row_path: str) -> bool:
    """Whether a path with `{id}` stands for one with `{vm}`, or with an example in its place."""
    ours, theirs = row_path.split("/"), path.split("/")
    return len(ours) == len(theirs) and all(
        mine == other or other.startswith("{") for mine, other in zip(ours, theirs, strict=True)
    )


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return resolved(description()["components"]["schemas"][name])
    return schema


def types_of(schema: dict[str, Any]) -> set[str]:
    schema = resolved(schema)
    parts = [part for word in ("anyOf", "oneOf", "allOf") for part in schema.get(word, [])]
    if parts:
        return set().union(*(types_of(part) for part in parts))
    if "enum" in schema and "type" not in schema:
        return {"null" if value is None else "string" for value in schema["enum"]}
    kinds = schema["type"]
    return set(kinds) if isinstance(kinds, list) else {kinds}


def values_not_of(schema: dict[str, Any]) -> list[Any]:
    allowed = types_of(schema)
    if "number" in allowed:
        allowed.add("integer")
    return [value for kind, values in VALUES.items() if kind not in allowed for value in values]
