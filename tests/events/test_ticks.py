"""The clockwork: piles of ticks, and clocks that differ."""

from __future__ import annotations

import datetime
import uuid

import pytest
from celery.utils.time import maybe_make_aware
from celery.worker.request import Request
from kombu.message import Message

from events import ticks
from izvor_project.celery import app


@pytest.fixture
def name() -> str:
    return f"test.{uuid.uuid4()}"


@pytest.mark.services
def test_of_a_pile_one_does_the_work(name):
    done: list[str] = []

    @ticks.tick_task(name)
    def tick() -> None:
        done.append(name)

    for _ in range(50):
        tick(every_s=30)
    assert done == [name]


def test_asked_by_hand_it_is_done_each_time(name):
    done: list[str] = []

    @ticks.tick_task(name)
    def tick() -> None:
        done.append(name)

    tick()
    tick()
    assert len(done) == 2


def test_without_redis_it_is_done(name, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    assert ticks.is_first_in(name, 30)


@pytest.mark.parametrize("entry", app.conf.beat_schedule.values(), ids=lambda entry: entry["task"])
def test_a_worker_whose_clock_is_minutes_ahead_takes_every_tick(entry):
    """Its clock says now; beat, five minutes behind, has stamped when the message expires."""
    stamped = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)
    expires = stamped + datetime.timedelta(seconds=entry["options"]["expires"])
    headers = {
        "id": str(uuid.uuid4()),
        "task": entry["task"],
        "expires": maybe_make_aware(expires).isoformat(),
        "root_id": None,
        "parent_id": None,
    }
    body: tuple[list[object], dict[str, object], dict[str, object]] = ([], entry["kwargs"], {})
    message = Message(
        body="",
        headers=headers,
        delivery_info={"exchange": "", "routing_key": "turns"},
        properties={"correlation_id": headers["id"], "reply_to": None},
        content_type="application/json",
        content_encoding="utf-8",
    )
    app.loader.import_default_modules()
    request = Request(message, app=app, decoded=True, body=body, task=app.tasks[entry["task"]])
    assert not request.maybe_expire()
