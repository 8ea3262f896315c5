"""Events are told in the order of their commits: none is missed, none comes twice."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.utils import IntegrityError

from events import outbox
from events.models import Delivery, Event, record_event
from events.wanted import Wanted
from events.webhooks import create_webhook

pytestmark = pytest.mark.django_db(transaction=True)


def kinds(page: outbox.Page) -> list[str]:
    return [event.actor for event in page.events]


def in_thread(target: Any) -> threading.Thread:
    def run() -> None:
        try:
            target()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.services
def test_who_commits_late_is_told_last_and_not_missed(project):
    """Two transactions, interleaved: the one that wrote first commits last."""
    has_written, may_commit = threading.Event(), threading.Event()
    start = outbox.position()

    def slow() -> None:
        with transaction.atomic():
            record_event("size.changed", by="slow")
            has_written.set()
            assert may_commit.wait(10)

    thread = in_thread(slow)
    assert has_written.wait(10)
    record_event("size.changed", by="quick")
    first = outbox.read_on(start)
    assert kinds(first) == ["quick"]
    may_commit.set()
    thread.join(10)
    later = outbox.read_on(first.position)
    assert kinds(later) == ["slow"]
    # By id it would have been missed: its id is below the one that was read.
    assert later.events[0].pk < first.events[0].pk
    assert later.position > first.position
    assert kinds(outbox.read_on(start)) == ["quick", "slow"]


def test_a_numbering_that_is_under_way_is_waited_for(project):
    """Two who number at once: the second begins when the first's numbers can be seen."""
    has_numbered, may_commit = threading.Event(), threading.Event()
    start = outbox.position()
    record_event("size.changed", by="one")

    def numbering() -> None:
        with transaction.atomic():
            outbox.publish()
            has_numbered.set()
            assert may_commit.wait(10)

    first = in_thread(numbering)
    assert has_numbered.wait(10)
    record_event("size.changed", by="two")
    seen: list[outbox.Page] = []
    second = in_thread(lambda: seen.append(outbox.read_on(start)))
    second.join(0.3)
    assert second.is_alive(), "it read past numbers that are not there yet"
    may_commit.set()
    first.join(10)
    second.join(10)
    assert kinds(seen[0]) == ["one", "two"]


@pytest.mark.services
def test_many_writers_and_many_who_number_at_once(project):
    """Whoever reads on from the last number gets each event once, in one order for all."""
    writers, each = 6, 40
    done = threading.Event()
    start = outbox.position()
    heard: list[list[int]] = [[], []]
    numbers: list[list[int]] = [[], []]

    def write(name: int) -> None:
        for number in range(each):
            with transaction.atomic():
                record_event("size.changed", by="x", label=f"{name} {number}")
                if number % 7 == 0:
                    record_event("size.changed", by="x", label=f"{name} {number} more")
                if number % 11 == 0:
                    transaction.set_rollback(True)

    def listen(place: int) -> None:
        position, is_last = start, False
        while not is_last:
            is_last = done.is_set()
            page = outbox.read_on(position)
            position = page.position
            heard[place] += [event.pk for event in page.events]
            numbers[place] += [event.seq or 0 for event in page.events]

    listeners = [in_thread(lambda place=place: listen(place)) for place in range(2)]
    threads = [in_thread(lambda name=name: write(name)) for name in range(writers)]
    for thread in threads:
        thread.join(60)
    done.set()
    for thread in listeners:
        thread.join(60)
    written = set(Event.objects.filter(kind="size.changed").values_list("pk", flat=True))
    assert len(written) > writers * each * 0.8
    for place in range(2):
        assert len(heard[place]) == len(set(heard[place])) == len(written)
        assert set(heard[place]) == written
        assert numbers[place] == sorted(set(numbers[place]))
    assert heard[0] == heard[1]


def test_what_was_rolled_back_is_never_told(project):
    start = outbox.position()
    with transaction.atomic():
        record_event("size.changed", by="nobody")
        transaction.set_rollback(True)
    assert outbox.read_on(start).events == []


def test_numbers_go_on_after_everything_was_forgotten(project):
    record_event("size.changed", by="one")
    before = outbox.position()
    Event.objects.all().delete()
    record_event("size.changed", by="two")
    assert outbox.position() > before


def test_reading_back_stops_where_it_is_told_to(project, neighbour):
    start = outbox.position()
    for number in range(5):
        record_event("size.changed", by=str(number), project_id=project.pk)
        record_event("vm.protection_changed", by=f"their {number}", project_id=neighbour.pk)
    until = outbox.position()
    record_event("size.changed", by="later", project_id=project.pk)
    outbox.publish()
    ours = Wanted(project_id=project.pk)
    page = outbox.read_back(ours, start, until, limit=3)
    assert kinds(page) == ["0", "1", "2"]
    assert page.position == page.events[-1].seq
    rest = outbox.read_back(ours, page.position, until, limit=3)
    assert kinds(rest) == ["3", "4"]
    # All there is up to there, so whoever goes on from it asks for nothing again.
    assert rest.position == until


@pytest.mark.services
def test_each_webhook_gets_each_event_once_however_many_number(project, neighbour, operator):
    mine, _ = create_webhook(
        url="https://192.0.2.1/", project=project, types=["size.*"], by=operator
    )
    everything, _ = create_webhook(url="https://192.0.2.2/", project=None, types=[], by=operator)
    outbox.publish()
    Delivery.objects.all().delete()

    def write() -> None:
        for _ in range(20):
            record_event("size.changed", by="x", project_id=project.pk)
            record_event("size.changed", by="x", project_id=neighbour.pk)
            record_event("vm.protection_changed", by="x", project_id=project.pk)
            outbox.publish()

    threads = [in_thread(write) for _ in range(4)]
    for thread in threads:
        thread.join(60)
    outbox.publish()
    assert mine.deliveries.count() == 80
    assert everything.deliveries.count() == 240
    told = mine.deliveries.order_by().values_list("event__kind", "event__project").distinct()
    assert list(told) == [("size.changed", project.pk)]


def test_a_second_delivery_of_one_event_is_impossible(project, operator):
    webhook, _ = create_webhook(url="https://192.0.2.1/", project=None, types=[], by=operator)
    outbox.publish()
    made = webhook.deliveries.get()
    with pytest.raises(IntegrityError, match="one_delivery_per_event_and_webhook"):
        Delivery.objects.create(
            event=made.event, webhook=webhook, next_at=made.next_at, give_up_at=made.give_up_at
        )


def test_a_disabled_webhook_and_one_that_wants_other_things_get_nothing(project, operator):
    off, _ = create_webhook(
        url="https://192.0.2.1/", project=None, types=[], is_enabled=False, by=operator
    )
    other, _ = create_webhook(
        url="https://192.0.2.1/", project=None, types=["task.*", "vm.missing"], by=operator
    )
    for kind in ("vm.missing", "vm.protection_changed", "task.failed", "size.changed"):
        record_event(kind, by="x")
    outbox.publish()
    assert not off.deliveries.exists()
    told = other.deliveries.order_by("event__seq").values_list("event__kind", flat=True)
    assert list(told) == ["vm.missing", "task.failed"]


def test_events_of_one_numbering_keep_their_order_in_a_young_installation(project):
    """Where Postgres takes the table for one of a single row it joins by nested loops, in the order
    in which rows lie: and a row that was updated lies last."""
    record_event("size.changed", by="the first")
    start = outbox.position()
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE events_event")
    for number in range(20):
        record_event("size.changed", by=str(number))
    for number in (0, 3, 7):
        Event.objects.filter(actor=str(number)).update(subject_label="moved")
    page = outbox.read_on(start)
    assert kinds(page) == [str(number) for number in range(20)]
    numbers = [event.seq for event in page.events]
    assert numbers == list(range(start + 1, start + 21))
