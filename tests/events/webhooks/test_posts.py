"""What is sent, signed and to whom, and what is made of the answer."""

from __future__ import annotations

import json
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from events import deliveries, outbox, sending
from events.models import PENDING, SUCCEEDED, Delivery
from events.webhooks import change_webhook, create_webhook
from pve_simulator.tls import ensure_certificates
from tests.events.receiver import receiving
from tests.events.webhooks.cast import make_due, reread

pytestmark = pytest.mark.django_db(transaction=True)


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
