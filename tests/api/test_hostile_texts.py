"""Hostile texts, everywhere a text can stand: in bodies, paths and queries."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.api.shapes import fields_of, problem_of
from tests.api.table import API
from tests.api.test_bad_input import sent
from tests.api.wrong import HOSTILE

pytestmark = pytest.mark.django_db

TEXT_FIELDS = [
    "name",
    "template",
    "size",
    "node",
    "cluster",
    "network",
    "storage",
    "ip_config",
    "tags[0]",
    "cloud_init.user",
    "cloud_init.ssh_keys[0]",
    "cloud_init.ip_config",
    "cloud_init.gateway",
    "cloud_init.dns[0]",
    "cloud_init.searchdomain",
]
# What a text may be, and is then kept to the letter.
FREE_FIELDS = ["description", "metadata.key", "cloud_init.password"]


def body_with(field: str, value: Any) -> dict[str, Any]:
    head, _, tail = field.partition(".")
    if tail:
        return sent({head: body_with_inner(tail, value)})
    return sent(body_with_inner(head, value))


def body_with_inner(field: str, value: Any) -> dict[str, Any]:
    return {field[:-3]: [value]} if field.endswith("[0]") else {field: value}


@pytest.mark.parametrize("field", TEXT_FIELDS)
def test_hostile_texts_are_refused_in_every_field(field, operator_calls, unchanged):
    harmless = {
        ("name", "99999999999999999999"),
        *((tag, word) for tag in ("tags[0]",) for word in ("1e9", "0", "99999999999999999999")),
        ("cloud_init.searchdomain", "1e9"),
        ("cloud_init.searchdomain", "0"),
        ("cloud_init.searchdomain", "99999999999999999999"),
        ("name", "1e9"),
    }
    for text in HOSTILE:
        if (field, text) in harmless:
            continue
        body = problem_of(operator_calls.post(f"{API}/vms", body_with(field, text)), 400)
        assert field in fields_of(body), (text, body["errors"])


@pytest.mark.parametrize("field", FREE_FIELDS)
@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "ok\udfff"], ids=ascii)
def test_texts_that_cannot_be_stored_are_refused(field, text, operator_calls, unchanged):
    body = problem_of(operator_calls.post(f"{API}/vms", body_with(field, text)), 400)
    assert fields_of(body) == [field]


PATHS = [
    "/vms/{}",
    "/vms/{}/actions",
    "/sizes/{}",
    "/templates/{}",
    "/tasks/{}",
    "/tasks/{}/log",
    "/tasks/{}/cancel",
    "/{}",
    "/vms/100/{}",
]


@pytest.mark.parametrize("path", PATHS)
def test_hostile_path_segments_find_nothing(path, operator_calls, unchanged):
    texts = [*HOSTILE, "UPID:", "UPID:pve:x", "UPID:pve:1:2:3:a:b:\x00:", "UPID:💥:💥", "%ff"]
    for text in texts:
        raw = "%ED%A0%80" if text.startswith(("\ud800", "\udfff")) else quote(text, safe="")
        for method in ("GET", "POST", "DELETE", "PUT", "PATCH"):
            body = {"action": "start"} if method == "POST" else None
            answer = operator_calls.ask(method, f"{API}{path.format(raw)}", body)
            assert answer.status_code in {404, 405}, (method, text, answer.content)
            problem_of(answer, answer.status_code)


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/vms", ["node", "cluster", "status", "tag", "template", "name", "search", "project"]),
        ("/vms", ["limit", "cursor"]),
        ("/vms/100", ["cluster", "refresh"]),
        ("/templates", ["cluster", "name", "limit", "cursor"]),
        ("/templates/9000", ["cluster"]),
        ("/tasks", ["status", "vm", "kind", "limit", "cursor"]),
        ("/tasks/UPID:pve:0000AAAA:00BB00BB:69231234:qmstop:100:root@pam:", ["node", "cluster"]),
        ("/sizes", ["limit", "cursor"]),
    ],
    ids=str,
)
def test_hostile_query_parameters_never_break_it(path, names, operator_calls, unchanged):
    deep = "W1tb" * 6000
    for name in names:
        for text in (*HOSTILE, deep, "%ff", "%ED%A0%80"):
            raw = text if text.startswith("%") else quote(text, safe="", errors="replace")
            answer = operator_calls.get(f"{API}{path}?{name}={raw}")
            if answer.status_code != 200:
                assert answer.status_code in {400, 404}, (name, text, answer.content)
                problem_of(answer, answer.status_code)
            if "\x00" in text:
                assert fields_of(problem_of(answer, 400)) == [name]
