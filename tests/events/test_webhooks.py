"""Webhooks: what is sent, signed, tried again, given up, and who is killed meanwhile."""

from __future__ import annotations

import datetime
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from accounts.actors import Actor
from accounts.models import Project
from events import deliveries, outbox, sending
from events.models import FAILED, PENDING, SUCCEEDED, Delivery, Event, Webhook, record_event
from events.tasks import tick
from events.webhooks import change_webhook, create_webhook
from pve_simulator.tls import ensure_certificates
from tests.events.receiver import Receiver, receiving
from tests.events.serving import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(settings: Any) -> None:
    """The receivers of these tests are on this machine, and nobody waits for long."""
    settings.WEBHOOKS = {
        **settings.WEBHOOKS,
        "allow_private": True,
        "timeout_s": 1.0,
        "lease_s": 2.0,
    }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as there:
        yield there


@pytest.fixture
def hook(project: Project, operator: Actor, receiver: Receiver) -> tuple[Webhook, str]:
    """A webhook that is told of VMs, and its secret."""
    return create_webhook(url=receiver.url(), project=project, types=["vm.*"], by=operator)


@pytest.fixture
def tell(project: Project, hook: Any) -> Callable[..., Delivery]:
    """Something happens; gives its delivery, which is due."""

    def happen(**data: Any) -> Delivery:
        event = record_event("vm.missing", by="ana", project_id=project.pk, label="108 web", **data)
        outbox.publish()
        made: Delivery = Delivery.objects.get(event=event)
        return made

    return happen


def reread(row: Any) -> Any:
    return type(row).objects.get(pk=row.pk)


def make_due(delivery: Delivery) -> None:
    Delivery.objects.filter(pk=delivery.pk).update(next_at=Now())


# --- what is sent ---


@pytest.mark.services
def test_an_event_is_posted_signed_and_named(tell, hook, receiver):
    _, secret = hook
    delivery = tell(details="x")
    deliveries.work()
    (heard,) = receiver.heard
    assert heard.path == "/hook"
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["izvor-event"] == "vm.missing"
    assert heard.headers["izvor-delivery"] == str(delivery.uuid)
    assert heard.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert heard.is_signed_with(secret)
    assert not heard.is_signed_with("whsec_another")
    body = json.loads(heard.body)
    assert body["type"] == "vm.missing"
    assert body["id"] == reread(delivery.event).seq
    assert body["label"] == "108 web"
    done = reread(delivery)
    assert (done.state, done.attempts, done.response_status) == (SUCCEEDED, 1, 200)
    assert (done.response_body, done.error) == ("thanks", "")
    assert done.ended_at is not None
    assert done.duration_ms is not None


def test_a_signature_is_that_of_the_documented_scheme():
    """Computed here with nothing of ours: HMAC-SHA256 over the time, a dot and the body."""
    import hashlib
    import hmac

    wanted = hmac.new(b"whsec_x", b'1700000000.{"a":1}', hashlib.sha256).hexdigest()
    assert sending.signature("whsec_x", b'{"a":1}', 1700000000) == f"t=1700000000,v1={wanted}"


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_ends_it(status, tell, receiver):
    receiver.say(status)
    delivery = tell()
    deliveries.work()
    assert reread(delivery).state == SUCCEEDED


@pytest.mark.parametrize("status", [300, 400, 404, 410, 500, 503])
def test_anything_else_is_tried_again(status, tell, hook, receiver):
    receiver.say(status, b"no")
    delivery = tell()
    deliveries.work()
    waits = reread(delivery)
    assert (waits.state, waits.attempts, waits.response_status) == (PENDING, 1, status)
    assert waits.next_at is not None
    assert str(status) in waits.error
    assert reread(hook[0]).failing_since is not None
    receiver.say(200)
    make_due(delivery)
    deliveries.work()
    assert (reread(delivery).state, reread(delivery).attempts) == (SUCCEEDED, 2)
    assert reread(hook[0]).failing_since is None
    first, second = receiver.heard
    assert first.body == second.body
    assert first.headers["izvor-delivery"] == second.headers["izvor-delivery"]


def test_redirects_are_not_followed(tell, receiver):
    receiver.say(302, Location=receiver.url(path="/elsewhere"))
    delivery = tell()
    deliveries.work()
    assert [heard.path for heard in receiver.heard] == ["/hook"]
    assert reread(delivery).response_status == 302
    assert reread(delivery).state == PENDING


def test_only_the_beginning_of_an_answer_is_kept(tell, receiver):
    receiver.say(500, b"\0" + b"x" * 1_000_000)
    delivery = tell()
    deliveries.work()
    kept = reread(delivery).response_body
    assert kept == "\ufffd" + "x" * (sending.SNIPPET_BYTES - 1)


@pytest.mark.parametrize("where", ["head", "body", "silence"])
def test_a_receiver_that_drips_has_as_little_time_as_a_silent_one(where, tell, receiver):
    def drip(handler: Any) -> None:
        handler.close_connection = True
        if where == "silence":
            time.sleep(6)
            return
        text = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
        if where == "body":
            handler.wfile.write(text)
            text = b"x" * 1000
        for place in range(len(text)):
            handler.wfile.write(text[place : place + 1])
            time.sleep(0.1)

    receiver.answer = drip
    delivery = tell()
    began = time.monotonic()
    deliveries.work()
    assert time.monotonic() - began < 4
    # With a whole head there is an answer, and it says 200; its body is not waited for.
    assert reread(delivery).state == (SUCCEEDED if where == "body" else PENDING)
    if where != "body":
        assert "No answer within 1 s" in reread(delivery).error


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_what_is_no_http_is_a_failure_like_any_other(answer, tell, receiver):
    def speak(handler: Any) -> None:
        handler.close_connection = True
        handler.wfile.write(answer)

    receiver.answer = speak
    delivery = tell()
    deliveries.work()
    assert (reread(delivery).state, reread(delivery).response_status) == (PENDING, None)
    assert reread(delivery).error


def test_nobody_there_is_said(tell, hook, operator):
    change_webhook(hook[0], url="http://127.0.0.1:1/", by=operator)
    delivery = tell()
    deliveries.work()
    assert "ConnectionRefusedError" in reread(delivery).error


def test_with_another_key_of_izvors_it_waits_and_says_why(tell, settings, receiver):
    delivery = tell()
    settings.SECRET_KEY = "another"
    deliveries.work()
    assert receiver.heard == []
    assert "IZVOR_SECRET_KEY" in reread(delivery).error
    assert reread(delivery).state == PENDING


# --- TLS ---


@pytest.fixture
def certificates(tmp_path: Path) -> Any:
    return ensure_certificates(tmp_path, ("localhost",))


@pytest.mark.parametrize("is_trusted", [True, False])
def test_tls_is_checked_for_the_name_though_the_address_is_dialed(
    is_trusted, certificates, tmp_path, project, operator, monkeypatch
):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.server_file)
    trusting = ssl.create_default_context()
    if is_trusted:
        trusting.load_verify_locations(certificates.ca_file)
    monkeypatch.setattr(sending, "_tls", lambda: trusting)
    with receiving(server) as receiver:
        create_webhook(url=receiver.url("localhost"), project=project, types=[], by=operator)
        outbox.publish()
        deliveries.work()
        delivery = Delivery.objects.get()
        if is_trusted:
            assert delivery.state == SUCCEEDED, delivery.error
            assert receiver.heard[0].headers["host"] == f"localhost:{receiver.port}"
        else:
            assert receiver.heard == []
            assert "certificate verify failed" in delivery.error


def test_a_certificate_for_another_name_is_refused(certificates, project, operator, monkeypatch):
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificates.server_file)
    trusting = ssl.create_default_context(cafile=str(certificates.ca_file))
    monkeypatch.setattr(sending, "_tls", lambda: trusting)
    monkeypatch.setattr(
        "socket.getaddrinfo", lambda *args, **more: [(2, 1, 6, "", ("127.0.0.1", args[1]))]
    )
    with receiving(server) as receiver:
        create_webhook(url=receiver.url("other.example"), project=project, types=[], by=operator)
        outbox.publish()
        deliveries.work()
        assert receiver.heard == []
        assert "Hostname mismatch" in Delivery.objects.get().error


# --- retries, giving up, switching off ---


def test_the_pauses_grow_to_hours_and_the_last_try_is_a_day_later(settings):
    from izvor_project.settings import WEBHOOKS

    settings.WEBHOOKS = WEBHOOKS
    pauses = [deliveries.backoff_s(attempt) for attempt in range(1, 40)]
    for attempt, pause in enumerate(pauses):
        base = min(WEBHOOKS["backoff_max_s"], 5 * 2**attempt)
        assert 0.75 * base <= pause <= 1.25 * base
    assert WEBHOOKS["give_up_s"] == 24 * 3600
    assert len({deliveries.backoff_s(3) for _ in range(20)}) > 1


def test_after_a_day_it_has_failed(tell, receiver):
    receiver.say(500)
    delivery = tell()
    assert delivery.give_up_at - delivery.created_at >= datetime.timedelta(hours=23, minutes=59)
    Delivery.objects.filter(pk=delivery.pk).update(give_up_at=Now())
    deliveries.work()
    ended = reread(delivery)
    assert (ended.state, ended.next_at) == (FAILED, None)
    assert ended.ended_at is not None
    deliveries.work()
    assert len(receiver.heard) == 1


def test_one_that_has_failed_for_days_is_switched_off_and_that_is_told(tell, hook, receiver):
    webhook, _ = hook
    receiver.say(500)
    days = datetime.timedelta(days=3, minutes=1)
    Webhook.objects.filter(pk=webhook.pk).update(failing_since=timezone.now() - days)
    delivery = tell()
    deliveries.work()
    assert not reread(webhook).is_enabled
    event = Event.objects.get(kind="webhook.disabled")
    assert (event.actor, event.subject) == ("izvor", webhook.uuid)
    assert event.project_id == webhook.project_id
    # What is pending stays so, and nothing new is made.
    make_due(delivery)
    deliveries.work()
    assert len(receiver.heard) == 1
    record_event("vm.missing", by="x", project_id=webhook.project_id)
    outbox.publish()
    assert webhook.deliveries.count() == 1


def test_switched_on_again_it_goes_on_with_what_was_left(tell, hook, receiver, operator):
    webhook, _ = hook
    delivery = tell()
    Webhook.objects.filter(pk=webhook.pk).update(is_enabled=False, failing_since=timezone.now())
    deliveries.work()
    assert receiver.heard == []
    change_webhook(reread(webhook), is_enabled=True, by=operator)
    assert reread(webhook).failing_since is None
    deliveries.work()
    assert reread(delivery).state == SUCCEEDED


def test_asked_for_again_it_comes_under_the_same_id(tell, receiver, operator):
    delivery = tell()
    deliveries.work()
    assert deliveries.redeliver(reread(delivery), by=operator)
    assert reread(delivery).state == PENDING
    deliveries.work()
    first, second = receiver.heard
    assert first.headers["izvor-delivery"] == second.headers["izvor-delivery"]
    assert first.body == second.body
    assert reread(delivery).state == SUCCEEDED
    assert Event.objects.filter(kind="webhook.redelivered", actor=operator.name).count() == 1


# --- many at once ---


@pytest.mark.services
def test_many_senders_send_each_once(tell, hook, receiver):
    wanted = {str(tell(n=n).uuid) for n in range(40)}

    def send() -> None:
        try:
            deliveries.work()
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    # Whoever found four under way has left; what they left is taken by the next tick's.
    deliveries.work()
    heard = [one.headers["izvor-delivery"] for one in receiver.heard]
    assert sorted(heard) == sorted(wanted)
    assert not Delivery.objects.exclude(state=SUCCEEDED).exists()


def test_a_webhook_that_fails_is_sent_one_at_a_time(tell, hook, receiver):
    Webhook.objects.update(failing_since=timezone.now())
    first, second = tell(), tell()
    taken = deliveries.take()
    assert taken is not None
    assert taken.pk == first.pk
    assert deliveries.take() is None
    deliveries.settle(taken, deliveries.attempt(taken))
    following = deliveries.take()
    assert following is not None
    assert following.pk == second.pk


def test_a_slow_webhook_does_not_hold_up_the_others(tell, hook, project, operator, receiver):
    for n in range(6):
        tell(n=n)
    taken = [deliveries.take() for _ in range(5)]
    assert [delivery is None for delivery in taken] == [False] * 4 + [True]
    with receiving() as other:
        create_webhook(url=other.url(), project=None, types=["size.*"], by=operator)
        record_event("size.changed", by="x")
        outbox.publish()
        deliveries.work()
        assert len(other.heard) == 1


def test_the_clock_numbers_and_starts_senders(project, hook, receiver, settings):
    record_event("vm.missing", by="x", project_id=project.pk)
    tick()
    assert Delivery.objects.count() == 1
    assert deliveries.senders_wanted() == 1
    deliveries.work()
    assert deliveries.senders_wanted() == 0


# --- workers that die ---

_SENDER = """
import django
django.setup()
from events import deliveries
deliveries.work()
"""


@pytest.mark.services
def test_a_worker_killed_while_it_sends_is_followed_by_another(tell, hook, receiver):
    has_arrived, may_answer = threading.Event(), threading.Event()

    def hold(handler: Any) -> None:
        has_arrived.set()
        may_answer.wait(20)
        handler.close_connection = True

    receiver.answer = hold
    delivery = tell()
    database = urlsplit(os.environ["DATABASE_URL"])
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "IZVOR_WEBHOOK_ALLOW_PRIVATE": "true",
        "DATABASE_URL": database._replace(path=f"/{connection.settings_dict['NAME']}").geturl(),
    }
    worker = subprocess.Popen([sys.executable, "-c", _SENDER], env=env)
    try:
        assert has_arrived.wait(30)
    finally:
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(10)
    may_answer.set()
    left = reread(delivery)
    assert (left.state, left.attempts) == (PENDING, 1)
    assert left.lease_until is not None
    # Its lease is still on: nobody else sends it.
    assert deliveries.take() is None
    receiver.say(200)
    earlier = datetime.timedelta(minutes=2)
    Delivery.objects.update(lease_until=F("lease_until") - earlier)
    deliveries.work()
    assert (reread(delivery).state, reread(delivery).attempts) == (SUCCEEDED, 2)
    first, second = receiver.heard
    # The receiver tells by the id that it is the same.
    assert first.headers["izvor-delivery"] == second.headers["izvor-delivery"]
    assert first.body == second.body


def test_who_lost_the_lease_writes_nothing(tell, receiver):
    delivery = tell()
    slow = deliveries.take()
    assert slow is not None
    Delivery.objects.update(lease_until=Now())
    wait_until(lambda: deliveries.due().exists(), "the lease's end")
    other = deliveries.take()
    assert other is not None
    deliveries.settle(other, deliveries.attempt(other))
    receiver.say(500)
    deliveries.settle(slow, deliveries.attempt(slow))
    assert (reread(delivery).state, reread(delivery).response_status) == (SUCCEEDED, 200)
