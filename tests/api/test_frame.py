"""What holds for each request, whatever it asks for: bodies, types, methods, hosts, request ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.shapes import fields_of, problem_of
from tests.api.table import API
from tests.api.test_bad_input import GOOD

pytestmark = pytest.mark.django_db

DEEP = 100_000


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"nonsense", 400),
        (b'{"name": "web",}', 400),
        (b"{'name': 'web'}", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"web"', 400),
        (b"7", 400),
        (b"\xff\xfe\x00", 400),
        (b'{"name": "\xe9"}', 400),
        (b'{"name": NaN, "template": "ubuntu-22.04"}', 400),
        (b'{"name": "web", "template": "ubuntu-22.04", "cores": Infinity}', 400),
        (b'{"name": "web", "template": "ubuntu-22.04", "cores": 1e999}', 400),
        (b'{"name": "web", "template": "ubuntu-22.04", "cores": ' + b"9" * 10_000 + b"}", 400),
        (b'{"name": "web", "template": ' + b"9" * 10_000 + b"}", 400),
        (b'{"name": "web", "template": ' + b"9" * 4_000 + b"}", 400),
        (b'{"template": ' + b"[" * DEEP + b"]" * DEEP + b"}", 400),
        (b"[" * DEEP, 400),
        (b'{"a":' * DEEP, 400),
        (b'{"metadata": {"\\ud800": "x"}}', 400),
        (b'{"\\udfff": "x"}', 400),
        (b'{"\\u0000": "x"}', 400),
        (b'{"description": "' + b"x" * 1024 * 1024 + b'"}', 413),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else str(value),
)
def test_a_body_that_cannot_be_read_is_refused(body, status, operator_calls, unchanged):
    problem_of(operator_calls.post(f"{API}/vms", body), status)
    problem_of(operator_calls.post(f"{API}/vms/100/actions", body), status)


@pytest.mark.parametrize(
    ("more", "field"),
    [
        (b'"cores": 2', "cores"),
        (b'"cores": 1', "cores"),
        (b'"c\\u006fres": 2', "cores"),
        (b'"cloud_init": {"user": "ana", "user": "root"}', "cloud_init.user"),
        (b'"tags": [{}, {"a": 1, "b": [], "a": 1}]', "tags[1].a"),
        (b'"surprise": {"": 1, "": 1}', "surprise."),
    ],
)
def test_a_key_that_is_given_twice_is_named(more, field, operator_calls, unchanged):
    good = b'"name": "web", "template": "ubuntu-22.04", "cores": 1'
    body = problem_of(operator_calls.post(f"{API}/vms", b"{%s, %s}" % (good, more)), 400)
    assert body["errors"] == [{"field": field, "message": "Give it once."}]


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "application/xml",
        "nonsense",
        "",
    ],
)
def test_a_body_of_another_type_is_refused(content_type, operator_calls, unchanged):
    body = json.dumps(GOOD).encode()
    answer = operator_calls.post(f"{API}/vms", body, content_type=content_type)
    problem_of(answer, 415, "not_json")


@pytest.mark.parametrize("charset", ["utf-7", "rot13", "hex", "nonsense", "utf-16"])
def test_another_charset_changes_nothing(charset, operator_calls, unchanged):
    body = json.dumps({**GOOD, "cores": 0}).encode()
    answer = operator_calls.post(
        f"{API}/vms", body, content_type=f"application/json; charset={charset}"
    )
    assert fields_of(problem_of(answer, 400)) == ["cores"]


@pytest.mark.parametrize("path", ["/api/nothing", "/api/", "/api", "/api/v2/vms", "/api/v1"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_route_is_a_problem(path, method, operator_calls):
    problem_of(operator_calls.ask(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/vms"), ("DELETE", "/sizes"), ("POST", "/tasks"), ("GET", "/vms/100/actions")],
)
def test_a_wrong_method_is_a_problem_that_says_which_are_right(method, path, operator_calls):
    answer = operator_calls.ask(method, API + path)
    problem_of(answer, 405, "method_not_allowed")
    assert answer["Allow"]


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "image/*"])
def test_an_answer_in_another_type_is_not_to_be_had(accept, operator_calls):
    problem_of(operator_calls.get(f"{API}/vms", Accept=accept), 406, "not_acceptable")


def test_a_trailing_slash_is_tolerated(operator_calls, cluster):
    for path in ("/vms/", "/vms/100/", "/vms/sizes/", "/templates/", "/tasks/", "/sizes/small/"):
        assert operator_calls.get(API + path).status_code == 200


def test_a_host_that_is_not_ours_is_a_problem(operator_calls):
    problem_of(operator_calls.get(f"{API}/vms?limit=1", Host="evil.example"), 400, "malformed")


def test_a_bug_of_ours_is_a_problem_without_its_traceback(operator_calls, monkeypatch):
    def broken(*args: Any, **values: Any) -> None:
        raise RuntimeError("the secret inside")

    monkeypatch.setattr("vms.views.page_by_keys", broken)
    answer = operator_calls.get(f"{API}/vms")
    problem_of(answer, 500, "internal_error")
    assert b"secret inside" not in answer.content
    assert b"Traceback" not in answer.content


@pytest.mark.parametrize("given", ["abc-123", "A.b_c-9", "x" * 64])
def test_a_request_id_is_echoed(given, operator_calls):
    answer = operator_calls.get(f"{API}/vms/nope", X_Request_ID=given)
    assert problem_of(answer, 404)["request_id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", '"}{'])
def test_an_odd_request_id_is_replaced(given, operator_calls):
    answer = operator_calls.get(f"{API}/sizes", X_Request_ID=given)
    assert answer["X-Request-ID"] != given
    assert len(answer["X-Request-ID"]) == 32
