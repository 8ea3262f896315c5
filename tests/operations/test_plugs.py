"""Backing services are killed, flushed, filled up and doubled under all of Izvor as it runs.

With the product's own times. Two workers and two beats all along; after each test every VM that was
asked for is there once, and nothing else.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
import redis
import requests

from operations.models import QUEUED, SUCCEEDED
from tests.stack import WORKERS, Makeup, Stack, running_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MAKEUP = Makeup(
    settings="izvor_project.settings",
    simulator=("--faults", "--vms", "6", "--speed", "20", "--no-lag"),
    beats=("beat", "beat-2"),
    env=(("IZVOR_RATE_REQUESTS", "0"), ("IZVOR_LOG_FORMAT", "json")),
)
# What is promised (docs/operations.md), in seconds.
AFTER_A_DEAD_WORKER_S = 30.0
AFTER_A_LOST_MESSAGE_S = 10.0
MANY = 20


class Site:
    """Izvor, asked as its users ask it, and looked at from behind."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.dsn = stack.env["DATABASE_URL"]

    def create(self, count: int) -> dict[str, str]:
        """Names of new VMs, with their tasks."""
        prefix = f"plug-{uuid.uuid4().hex[:8]}"
        body = {"name": prefix, "template": "debian-12", "memory": 256, "cores": 1}
        answer = self.post("vms", {**body, "count": count, "start_on_create": True})
        assert answer.status_code == 202, answer.text
        tasks = [task["id"] for task in answer.json()["tasks"]]
        return {f"{prefix}-{number + 1}": task for number, task in enumerate(tasks)}

    def post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.stack.url}/{path}", json=body, timeout=60)

    def get(self, path: str) -> Any:
        return requests.get(f"{self.stack.url}/{path}", timeout=60).json()

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            cursor = connection.execute(query.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def states(self, tasks: dict[str, str]) -> Counter[str]:
        found = self.rows(
            "SELECT state FROM operations_operation WHERE uuid = ANY(%s)", list(tasks.values())
        )
        return Counter(state for (state,) in found)

    def confirm(self, tasks: dict[str, str], seconds: float = 120) -> None:
        """All succeed in the end, and each VM is on the cluster once, beside none that is not."""
        wait_until(
            lambda: self.states(tasks)[SUCCEEDED] == len(tasks),
            seconds,
            f"the end of all tasks, {self.states(tasks)}",
        )
        there = Counter(guest["name"] for guest in self.stack.proxmox("cluster/resources?type=vm"))
        prefix = next(iter(tasks)).rpartition("-")[0]
        assert {n: c for n, c in there.items() if n.startswith(prefix)} == dict.fromkeys(tasks, 1)
        assert self.rows("SELECT count(*) FROM operations_claim") == [(0,)]
        assert self.rows("SELECT count(*) FROM operations_laneticket") == [(0,)]


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
    wait_until(lambda: site.states(tasks)[QUEUED] == 0, 60, "their beginning")
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
    wait_until(lambda: site.states(tasks)[SUCCEEDED] >= MANY // 3, 120, "some ends")
    site.stack.restart("postgres")
    site.confirm(tasks)


def test_what_dead_workers_held_goes_on_within_half_a_minute(site: Site):
    tasks = site.create(8)
    site.stack.add_fault(kind="delay", seconds=200.0, count=40)  # ten seconds at this speed
    held = (
        "SELECT uuid::text, lease_token FROM operations_operation"
        " WHERE lease_until > now() AND uuid = ANY(%s)"
    )
    wait_until(lambda: len(site.rows(held, list(tasks.values()))) >= 2, 30, "work in hand")
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
        120,
        "another worker on each",
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
