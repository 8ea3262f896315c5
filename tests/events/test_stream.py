"""`GET /api/v1/events`, over real connections to a web process."""

from __future__ import annotations

import json
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.db import connection, connections, transaction
from django.utils import timezone

from accounts.models import ApiToken
from events.models import Event, record_event
from events.words import EVENTS
from izvor_project import handler, hub
from izvor_project.asgi import application
from tests.events.serving import Listening, web_server
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

VM, OTHER_VM = uuid.UUID(int=1), uuid.UUID(int=2)


def hub_of_web() -> hub.Hub:
    """Of the web process, which is a thread of ours."""
    found: hub.Hub = application.app.app.hub  # type: ignore[attr-defined]
    return found


def somebody_hears() -> bool:
    with redis.Redis.from_url(django_settings.REDIS_URL) as client:
        ((_, listeners),) = client.pubsub_numsub(EVENTS)
    return bool(listeners)


@pytest.fixture
def tell(project):
    """Writes an event of our project, unless told otherwise."""

    def write(kind: str = "vm.protection_changed", **more: Any) -> Event:
        return record_event(kind, **{"by": "ana", "project_id": project.pk, **more})

    return write


@pytest.mark.services
def test_an_event_is_told_at_once_in_the_form_that_is_promised(web, tokens, tell, monkeypatch):
    task = uuid.uuid4()
    # The word over Redis brings it, not the look that needs none.
    monkeypatch.setitem(django_settings.EVENTS, "look_s", 600.0)
    with Listening(web, tokens["member"]) as stream:
        assert "content-type: text/event-stream" in stream.head.lower()
        assert "cache-control: no-store" in stream.head.lower()
        assert "x-izvor" not in stream.head.lower()
        assert "x-request-id" in stream.head.lower()
        wait_until(somebody_hears, "the reader")
        event = tell(subject=VM, label="108 web", task=task, error="no space")
        message = stream.next()
    event.refresh_from_db()
    assert (message.id, message.type) == (event.seq, "vm.protection_changed")
    assert message.data == {
        "id": event.seq,
        "type": "vm.protection_changed",
        "time": event.at.isoformat().replace("+00:00", "Z"),
        "project": "default",
        "subject": str(VM),
        "label": "108 web",
        "by": "ana",
        "task": str(task),
        "details": {"error": "no space"},
    }


@pytest.mark.services
def test_without_the_word_it_is_found_within_two_seconds(web, tokens, tell, monkeypatch):
    monkeypatch.setattr(hub, "EVENTS", f"{EVENTS}:nobody-speaks-here")
    with Listening(web, tokens["operator"]) as stream:
        tell()
        assert stream.next(seconds=3).type == "vm.protection_changed"


def test_who_comes_back_misses_nothing_and_hears_nothing_twice(web, tokens, tell):
    tell(label="before")
    with Listening(web, tokens["member"]) as stream:
        heard = [tell(label=str(n)) and stream.next() for n in range(3)]
        last = stream.last_id
    assert [message.data["label"] for message in heard] == ["0", "1", "2"]
    for n in range(3, 1203):
        tell(label=str(n))
    for how in ({"headers": {"Last-Event-ID": str(last)}}, {"query": f"?last_event_id={last}"}):
        with Listening(web, tokens["member"], **how) as stream:
            tell(label="live")
            labels = [message.data["label"] for message in stream.take(1201)]
            assert labels == [*(str(n) for n in range(3, 1203)), "live"]
            assert stream.is_silent_for(0.3)
        Event.objects.filter(subject_label="live").delete()


def test_an_id_is_known_before_the_first_event(web, tokens, tell):
    """Who is cut off early can come back all the same."""
    tell()
    with Listening(web, tokens["member"]) as stream:
        first = stream.last_id
    assert first is not None
    event = tell(label="meanwhile")
    with Listening(web, tokens["member"], headers={"Last-Event-ID": str(first)}) as stream:
        assert stream.next().data["label"] == "meanwhile"
    event.refresh_from_db()
    assert first < (event.seq or 0)


@pytest.mark.services
def test_coming_back_while_much_happens_leaves_no_gap(web, tokens, tell):
    """Catching up and what happens meanwhile are joined without a seam, for several at once."""
    total, stop = 600, threading.Event()
    with Listening(web, tokens["member"]) as stream:
        start = stream.last_id

    def write() -> None:
        try:
            for n in range(total):
                tell(label=str(n))
        finally:
            connection.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(4):
            with Listening(web, tokens["member"], headers={"Last-Event-ID": str(start)}) as stream:
                heard = stream.take(total)
                labels = [int(message.data["label"]) for message in heard]
                assert labels == list(range(total))
                ids = [message.id for message in heard]
                assert ids == sorted(set(ids))
    finally:
        stop.set()
        writer.join(60)


@pytest.mark.services
def test_who_commits_late_is_heard_too(web, tokens, tell):
    has_written, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        try:
            with transaction.atomic():
                tell(label="late")
                has_written.set()
                assert may_commit.wait(10)
        finally:
            connection.close()

    with Listening(web, tokens["member"]) as stream:
        thread = threading.Thread(target=slow)
        thread.start()
        assert has_written.wait(10)
        tell(label="early")
        assert stream.next().data["label"] == "early"
        last = stream.last_id
        may_commit.set()
        thread.join(10)
        assert stream.next().data["label"] == "late"
    with Listening(web, tokens["member"], headers={"Last-Event-ID": str(last)}) as stream:
        assert stream.next().data["label"] == "late"


def test_each_hears_only_what_they_may_see(web, tokens, tell, neighbour):
    everybody = ("operator", "member", "neighbour")
    streams = {who: Listening(web, tokens[who]) for who in everybody}
    with streams["operator"], streams["member"], streams["neighbour"]:
        tell(label="ours")
        tell(label="theirs", project_id=neighbour.pk)
        tell("cluster.online", label="nobody's", project_id=None)
        heard = {who: streams[who].next().data["label"] for who in everybody}
        assert heard == {"operator": "ours", "member": "ours", "neighbour": "theirs"}
        rest = [message.data["label"] for message in streams["operator"].take(2)]
        assert rest == ["theirs", "nobody's"]
        assert streams["member"].is_silent_for(0.4)
        assert streams["neighbour"].is_silent_for(0.1)
    with Listening(web, tokens["neighbour"], query="?last_event_id=0") as stream:
        assert stream.next().data["label"] == "theirs"
        assert stream.is_silent_for(0.4)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("?type=vm.missing", ["missing"]),
        ("?type=vm.*", ["one", "missing", "other"]),
        ("?type=vm.missing,task.failed", ["missing", "failed"]),
        ("?type=vm.missing&type=task.*", ["missing", "failed"]),
        ("?vm=108", ["one", "failed"]),
        (f"?vm={VM}", ["one", "failed"]),
        ("?vm=108&type=task.*", ["failed"]),
    ],
)
def test_filters_hold_for_what_was_missed_and_for_what_comes(query, wanted, web, tokens, tell):
    def happen() -> None:
        tell("vm.protection_changed", subject=VM, label="108 web", what="one")
        tell("vm.missing", subject=OTHER_VM, label="1080 db", what="missing")
        tell("task.failed", subject=VM, label="108 web", what="failed")
        tell("vm.protection_changed", subject=OTHER_VM, label="1080 db", what="other")

    with Listening(web, tokens["member"]) as stream:
        start = stream.last_id
    happen()
    query = f"{query}&last_event_id={start}"
    with Listening(web, tokens["member"], query=query) as stream:
        assert [m.data["details"]["what"] for m in stream.take(len(wanted))] == wanted
        happen()
        assert [m.data["details"]["what"] for m in stream.take(len(wanted))] == wanted
        assert stream.is_silent_for(0.2)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("?type=vm.stoped", "type"),
        ("?types=vm.*", "types"),
        ("?vm=web", "vm"),
        ("?last_event_id=x", "Last-Event-ID"),
        ("?last_event_id=-1", "Last-Event-ID"),
    ],
)
def test_what_is_not_understood_is_refused(query, named, web, tokens):
    headers = {"Accept": "text/event-stream"}
    with Listening(web, tokens["member"], query=query, headers=headers) as stream:
        assert stream.status == 400
        assert "application/problem+json" in stream.head
        problem = json.loads(stream.body)
    assert [entry["field"] for entry in problem["errors"]] == [named]


def test_without_a_token_nobody_listens(web, project):
    for token in ("", "izv_unknown"):
        with Listening(web, token, headers={"Accept": "text/event-stream"}) as stream:
            assert stream.status == 401
            assert json.loads(stream.body)["code"] == "unauthorized"


def test_with_izvor_auth_none_other_hosts_do_not_listen(web, settings):
    settings.IZVOR_AUTH = "none"
    with Listening(web) as stream:
        assert stream.status == 200
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        with Listening(web, headers=headers) as stream:
            assert stream.status == 403
            assert json.loads(stream.body)["code"] in {"origin_not_allowed", "host_not_allowed"}


def test_a_head_request_is_no_listener(web, tokens):
    host, _, port = web.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        lines = f"HEAD /api/v1/events HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
        plain.sendall(f"{lines}Authorization: Bearer {tokens['member']}\r\n\r\n".encode())
        answer = plain.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"x-izvor" not in answer.lower()


def test_signs_of_life_are_sent(web, tokens, tell, settings):
    settings.EVENTS = {**settings.EVENTS, "heartbeat_s": 0.3, "look_s": 0.1}
    with Listening(web, tokens["member"]) as stream:
        stream.wait_for(lambda: len(stream.comments) >= 3, "three signs of life")
        assert set(stream.comments) == {"still here"}
        tell()
        assert stream.next().type == "vm.protection_changed"


@pytest.mark.parametrize("change", ["revoked_at", "expires_at", "gone"])
def test_who_listens_with_a_token_that_ends_is_cut(change, web, tokens, tell, settings):
    settings.EVENTS = {**settings.EVENTS, "recheck_s": 0.3, "look_s": 0.1}
    with Listening(web, tokens["member"]) as cut, Listening(web, tokens["operator"]) as other:
        row = ApiToken.objects.filter(name="me")
        if change == "gone":
            row.delete()
        else:
            row.update(**{change: timezone.now()})
        cut.wait_for(lambda: cut.is_over, "the end")
        assert cut.comments == ["this token has ended"]
        tell()
        assert other.next().type == "vm.protection_changed"


def test_tokens_are_looked_at_again_within_a_minute():
    assert django_settings.EVENTS["recheck_s"] + django_settings.EVENTS["look_s"] < 60
    assert django_settings.EVENTS["heartbeat_s"] <= 15


def test_a_slow_listener_is_cut_and_can_read_on(web, tokens, tell, settings):
    settings.EVENTS = {**settings.EVENTS, "queue_bytes": 500_000}
    with Listening(web, tokens["member"]) as stream:
        start = stream.last_id
    host, _, port = web.removeprefix("http://").partition(":")
    with socket.socket() as slow, Listening(web, tokens["operator"]) as quick:
        slow.settimeout(20)
        slow.connect((host, int(port)))
        slow.sendall(
            f"GET /api/v1/events?last_event_id={start} HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {tokens['member']}\r\n\r\n".encode()
        )
        assert slow.recv(12) == b"HTTP/1.1 200"
        [listener] = [one for one in list(hub_of_web().listeners) if one.order.after == start]
        total = 0
        # How much the kernel takes for it differs from one to the next; 40 MB no kernel does.
        while not listener.is_cut:
            assert total < 2000
            for n in range(total, total + 50):
                tell(label=str(n), padding="x" * 20_000)
            assert [int(m.data["label"]) for m in quick.take(50)] == list(range(total, total + 50))
            total += 50
        # It takes what is left for it, and the connection is over.
        rest = b""
        while piece := slow.recv(65_536):
            rest += piece
    complete = [part for part in rest.split(b"\n\n") if b"\nevent: " in part]
    heard = len(complete)
    assert 0 < heard < total
    assert b"padding" in complete[-1]
    ids = [int(line[4:]) for line in rest.split(b"\n") if line.startswith(b"id: ")]
    # The last id whose message is whole is where it goes on.
    last = ids[heard] if len(ids) > heard else ids[-1]
    with Listening(web, tokens["member"], headers={"Last-Event-ID": str(last)}) as stream:
        labels = [int(m.data["label"]) for m in stream.take(total - heard)]
    assert labels == list(range(heard, total))


def test_listeners_hold_neither_a_thread_nor_a_connection(web, tokens, tell, monkeypatch):
    # Held, these would not do for the requests of all of them.
    monkeypatch.setattr(handler, "_threads", ThreadPoolExecutor(8, "request"))
    streams = [Listening(web, tokens["member"]) for _ in range(40)]
    for stream in streams:
        stream.__enter__()
    try:
        time.sleep(0.3)
        before = {thread.name for thread in threading.enumerate()}
        served = [name for name in before if not name.startswith(("test-listener", "request"))]
        assert len(served) < 30, served
        used = []
        for _ in range(10):
            stats = connections["default"].pool.get_stats()  # type: ignore[attr-defined]
            used.append(stats.get("pool_size", 0) - stats.get("pool_available", 0))
            time.sleep(0.02)
        # One is this test's own; one look may be under way.
        assert sorted(used)[len(used) // 2] <= 2, used
        tell()
        assert {stream.next().type for stream in streams} == {"vm.protection_changed"}
    finally:
        for stream in streams:
            stream.__exit__(None, None, None)


def test_when_all_have_left_nobody_reads(web, tokens):
    with Listening(web, tokens["member"]):
        assert len(hub_of_web().listeners) == 1
        assert hub_of_web().position is not None
    wait_until(lambda: not hub_of_web().listeners, "the leaving")
    wait_until(lambda: hub_of_web().position is None, "the reader's end")


def test_when_the_server_ends_listeners_are_told_and_it_need_not_wait(project, tokens):
    with web_server() as url:
        stream = Listening(url, tokens["member"])
        stream.__enter__()
        began = time.monotonic()
    # Its patience would be five seconds.
    assert time.monotonic() - began < 3
    stream.wait_for(lambda: stream.is_over, "the end")
    assert stream.comments == ["the server ends: come back with the last id that you got"]
    stream.__exit__(None, None, None)
