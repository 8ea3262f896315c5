"""Tried again, given up, switched off; by many senders, of whom some are killed."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import threading
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.utils import timezone

from events import deliveries, outbox
from events.models import FAILED, PENDING, SUCCEEDED, Delivery, Event, Webhook, record_event
from events.tasks import tick
from events.webhooks import change_webhook, create_webhook
from tests.events.receiver import receiving
from tests.events.webhooks.cast import make_due, reread
from tests.threads import at_once
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


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
    assert at_once(*[deliveries.work] * 8) == [None] * 8
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
