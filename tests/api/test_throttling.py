"""How much one token may ask in a minute, and how often one may fail to log in."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.test import Client
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework.test import APIClient

from accounts import rates
from accounts.models import ApiToken
from accounts.pause import Pause
from events.models import Event
from tests.api.shapes import Caller, problem_of

pytestmark = pytest.mark.django_db

API = "/api/v1"


@pytest.fixture(autouse=True)
def few(settings: Any) -> None:
    settings.RATES = {"requests": 5, "tokens": 2, "logins": 3}
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for key in client.scan_iter(f"{settings.REDIS_PREFIX}:rate:*"):
            client.delete(key)
    # Not at the very end of a minute, when the next one begins to count anew.
    left = rates.WINDOW_S - time.time() % rates.WINDOW_S
    if left < 15:
        time.sleep(left)


@pytest.mark.services
def test_beyond_its_rate_a_token_waits_and_others_do_not(member_calls, operator_calls):
    assert [member_calls.get(f"{API}/sizes").status_code for _ in range(5)] == [200] * 5
    answer = member_calls.get(f"{API}/sizes")
    problem_of(answer, 429, "throttled")
    assert 1 <= int(answer["Retry-After"]) <= 60
    # Writing and streaming count as much as reading.
    problem_of(member_calls.post(f"{API}/tokens", {"name": "x"}), 429, "throttled")
    problem_of(member_calls.get(f"{API}/events"), 429, "throttled")
    assert not ApiToken.objects.filter(name="x").exists()
    assert operator_calls.get(f"{API}/sizes").status_code == 200


def test_in_a_minutes_first_moment_it_says_a_minute(member_calls, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 6_000_000_000.02)
    answers = [member_calls.get(f"{API}/sizes") for _ in range(6)]
    assert answers[-1].status_code == 429
    assert answers[-1]["Retry-After"] == "60"


def test_tokens_are_made_at_a_rate_of_their_own(member_calls):
    made = [member_calls.post(f"{API}/tokens", {"name": str(n)}).status_code for n in range(3)]
    assert made == [201, 201, 429]
    assert member_calls.get(f"{API}/tokens").status_code == 200


def test_a_minute_later_it_goes_on(member_calls, monkeypatch):
    for _ in range(6):
        answer = member_calls.get(f"{API}/sizes")
    assert answer.status_code == 429
    later = time.time() + int(answer["Retry-After"])
    monkeypatch.setattr("accounts.rates.time.time", lambda: later)
    assert member_calls.get(f"{API}/sizes").status_code == 200


def test_without_tokens_nobody_is_counted(settings, project):
    settings.IZVOR_AUTH = "none"
    local = Caller(APIClient(HTTP_HOST="localhost:8082"))
    assert {local.get(f"{API}/sizes").status_code for _ in range(8)} == {200}


def test_no_limit_is_one_too(settings, member_calls):
    settings.RATES = {"requests": 0, "tokens": 0, "logins": 0}
    assert {member_calls.get(f"{API}/sizes").status_code for _ in range(8)} == {200}


def test_without_redis_requests_pass_and_it_is_said(member_calls, monkeypatch, caplog):
    nobody = redis.Redis(host="127.0.0.1", port=1, retry=Retry(NoBackoff(), 0))
    monkeypatch.setattr(rates, "_redis", nobody)
    monkeypatch.setattr(rates, "_pause", Pause(5.0))
    caplog.set_level(logging.WARNING)
    assert {member_calls.get(f"{API}/sizes").status_code for _ in range(8)} == {200}
    said = [record for record in caplog.records if "rates_without_redis" in record.getMessage()]
    # Once, not at each request: it is not asked again for a while.
    assert len(said) == 1


# --- the admin's login ---


def log_in(name: str, password: str, address: str = "192.0.2.1") -> Any:
    form = {"username": name, "password": password}
    return Client(REMOTE_ADDR=address).post("/admin/login/?next=/admin/", form)


@pytest.fixture
def ana(db: None) -> User:
    return User.objects.create_superuser("ana", password="a long password")


@pytest.mark.services
def test_who_fails_too_often_has_to_wait(ana):
    for _ in range(3):
        assert log_in("ana", "wrong").status_code == 200
    answer = log_in("ana", "a long password")
    assert answer.status_code == 429
    assert 1 <= int(answer["Retry-After"]) <= 60
    assert "Too many failed logins" in answer.content.decode()
    # From elsewhere, and somebody else from here, may still.
    assert log_in("ana", "a long password", "192.0.2.2").status_code == 302
    User.objects.create_superuser("bo", password="another password")
    assert log_in("bo", "another password").status_code == 302


def test_who_succeeds_never_has_to_wait(ana):
    assert {log_in("ana", "a long password").status_code for _ in range(6)} == {302}


def test_an_unknown_name_waits_as_well(ana):
    answers = [log_in("eve", "wrong").status_code for _ in range(4)]
    assert answers == [200, 200, 200, 429]


def test_logins_are_in_the_audit_and_what_was_typed_is_not(ana):
    log_in("ana", "a long password")
    log_in("ana", "a wrong password")
    log_in("my secret in the wrong field", "x")
    log_in("", "")
    found = list(Event.objects.order_by("pk").values_list("kind", "actor", "data"))
    here = {"address": "192.0.2.1"}
    assert found == [
        ("login.succeeded", "admin:ana", here),
        ("login.failed", "admin:ana", here),
        ("login.failed", "admin:?", here),
    ]


def test_a_person_who_is_no_staff_fails_to_log_in(db):
    User.objects.create_user("eve", password="a long password")
    assert log_in("eve", "a long password").status_code == 200
    assert Event.objects.get().kind == "login.failed"
