"""Backing services are killed, flushed, filled up and doubled under all of Izvor as it runs.

After each test every VM that was asked for is there once, and nothing else.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import redis
import requests

from operations.models import QUEUED, SUCCEEDED
from tests.operations.whole import (
    AFTER_A_DEAD_WORKER_S,
    AFTER_A_LOST_MESSAGE_S,
    MAKEUP,
    SPEED,
    Site,
)
from tests.stack import WORKERS, running_stack
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MANY = 20


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with running_stack(makeup=MAKEUP) as stack:
        yield Site(stack)


def test_a_request_is_accepted_without_a_broker_and_begun_soon_after_it_is_back(site: Site):
    broker = site.stack.parts["valkey"]
    broker.kill()
    tasks = site.create(3)
    assert site.states(tasks) == {QUEUED: 3}
    broker.start()
    broker.wait_ready()
    back = time.monotonic()
    wait_until(lambda: site.states(tasks)[QUEUED] == 0, "their beginning", 60)
    assert time.monotonic() - back <= AFTER_A_LOST_MESSAGE_S
    site.confirm(tasks)


def test_a_broker_that_is_flushed_again_and_again_loses_nothing(site: Site):
    tasks = site.create(MANY)
    broker = redis.Redis.from_url(site.stack.env["REDIS_URL"])
    flushed = 0
    while site.states(tasks)[SUCCEEDED] < MANY:
        broker.flushall()
        flushed += 1
        time.sleep(1.0)  # how often it is flushed, and no wait for anything
        assert flushed < 120, site.states(tasks)
    assert flushed > 1, "else nothing was lost"
    site.confirm(tasks)


def test_a_database_that_is_restarted_twice_loses_nothing(site: Site):
    tasks = site.create(MANY)
    site.stack.restart("postgres")
    wait_until(lambda: site.states(tasks)[SUCCEEDED] >= MANY // 3, "some ends", 120)
    site.stack.restart("postgres")
    site.confirm(tasks)


def test_what_dead_workers_held_goes_on_within_half_a_minute(site: Site):
    tasks = site.create(8)
    site.stack.add_fault(kind="delay", seconds=200.0, count=40)  # ten seconds at this speed
    held = (
        "SELECT uuid::text, lease_token FROM operations_operation"
        " WHERE lease_until > now() AND uuid = ANY(%s)"
    )
    wait_until(lambda: len(site.rows(held, list(tasks.values()))) >= 2, "work in hand", 30)
    before = dict(site.rows(held, list(tasks.values())))
    for name in WORKERS:
        site.stack.kill(name)
    died = time.monotonic()
    site.stack.clear_faults()
    changed = (
        "SELECT count(*) FROM operations_operation WHERE uuid = ANY(%s)"
        " AND (lease_token IS NULL OR lease_token <> ALL(%s))"
    )
    wait_until(
        lambda: site.rows(changed, list(before), list(before.values())) == [(len(before),)],
        "another worker on each",
        120,
    )
    assert time.monotonic() - died <= AFTER_A_DEAD_WORKER_S
    site.confirm(tasks)


def test_of_fifty_clients_one_stops_the_vm_and_the_others_are_told(site: Site):
    tasks = site.create(1)
    site.confirm(tasks)
    (name,) = tasks
    (vm,) = site.get(f"vms?name={name}")["vms"]

    def stop(_: int) -> requests.Response:
        return site.post(f"vms/{vm['id']}/actions", {"action": "stop", "force": True})

    with ThreadPoolExecutor(50) as clients:
        answers = list(clients.map(stop, range(50)))
    assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 49}
    (accepted,) = (answer.json()["task_id"] for answer in answers if answer.status_code == 202)
    refused = [answer.json() for answer in answers if answer.status_code == 409]
    assert {body["code"] for body in refused} <= {"claimed", "wrong_state"}
    site.confirm({name: accepted})
    stops = site.stack.proxmox(f"nodes/{vm['node']}/tasks?vmid={vm['id']}&typefilter=qmstop")
    assert len(stops) == 1


def test_a_cluster_that_takes_twenty_seconds_for_each_answer_makes_nothing_twice(site: Site):
    """As long as a call may take, so that some are given up and their answers lost."""
    site.stack.add_fault(kind="delay", seconds=20.0 * SPEED, count=8)
    tasks = site.create(4)
    site.confirm(tasks, seconds=240)
    site.stack.clear_faults()


@contextmanager
def full_disk(site: Site) -> Iterator[None]:
    """Postgres refuses to write operations, with the error it has when its disk is full."""
    site.rows(
        "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file: No space left on device'"
        " USING ERRCODE = 'disk_full'; END $$"
    )
    site.rows(
        "CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON operations_operation"
        " FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )
    try:
        yield
    finally:
        site.rows("DROP TRIGGER full_disk ON operations_operation")


def test_a_full_disk_refuses_what_is_new_and_holds_up_the_rest(site: Site):
    tasks = site.create(6)
    with full_disk(site):
        answer = site.post("vms", {"name": "refused", "template": "debian-12", "memory": 256})
        assert answer.status_code == 503, answer.text
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "database_unavailable"
        held_up = site.states(tasks)
        time.sleep(3.0)  # turns try, and try again
        assert site.states(tasks) == held_up
    site.confirm(tasks)
    assert site.get("vms?name=refused")["count"] == 0
