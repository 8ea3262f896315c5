"""`Prefer: wait`, through the ASGI application as it is served, with a worker beside it."""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest
import redis
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connection, connections
from django.db.models.functions import Now

from accounts.actors import OPERATOR
from accounts.models import ApiToken
from izvor_project import waiting
from izvor_project.asgi import application
from operations import engine, poller
from operations.models import CANCELED, Claim, Operation
from operations.queue import CHANNEL
from operations.rest import AWAIT_HEADER
from pve_simulator import accidents
from tests.conftest import due
from tests.events.serving import web_server
from tests.vms.cast import a_vm
from tests.waiting import wait_until
from vms.models import STOPPED, VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1"
# Of `izvor_project.listening`: however many wait.
THREADS = 4
NEW = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "linked": True}


@pytest.fixture
def worker(cluster: Any) -> Iterator[None]:
    """Takes turns and polls in a thread of its own, as Celery's workers do."""
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.wait(0.02):
                for pk in due():
                    engine.take_turn(pk)
                poller.poll_cluster(cluster.pk)
        finally:
            connection.close()

    thread = threading.Thread(target=work, name="test-worker")
    thread.start()
    yield
    stop.set()
    thread.join(30)


@pytest.fixture
def serve(project: Any) -> Callable[[Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]], Any]:
    """Runs a coroutine that is given a client of the application."""
    _, token = ApiToken.objects.issue(name="waiting", project=project, role=OPERATOR)

    def run(talk: Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]) -> Any:
        async def session() -> Any:
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(application),
                base_url="http://localhost",
                headers={"Authorization": f"Bearer {token}"},
                timeout=60,
            ) as client:
                return await talk(client)

        return asyncio.run(session())

    return run


def ask(
    method: str, path: str, body: Any = None, wait: str | None = None
) -> Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]:
    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        headers = {"Prefer": wait} if wait else {}
        answer = await client.request(method, API + path, json=body, headers=headers)
        assert AWAIT_HEADER.lower() not in answer.headers
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        return answer

    return talk


@pytest.mark.services
def test_a_creation_that_is_waited_for_answers_with_the_vm(serve, worker, sim):
    answer = serve(ask("POST", "/vms", NEW, "wait=60"))
    body = answer.json()
    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.headers["Location"] == f"/api/v1/vms/{body['vm']['uuid']}"
    assert answer.headers["Content-Type"] == "application/json"
    assert (body["vm"]["status"], body["vm"]["task"]) == ("running", None)
    assert body["task"]["status"] == "succeeded"
    assert sim.guest(int(body["vmid"])).is_running


def test_actions_and_a_deletion_that_are_waited_for_answer_200(serve, worker, sim, operator):
    created = serve(ask("POST", "/vms", NEW, "wait=60")).json()
    vmid = created["vmid"]
    stopped = serve(
        ask("POST", f"/vms/{vmid}/actions", {"action": "stop", "force": True}, "wait=60")
    )
    assert stopped.status_code == 200
    assert stopped.json()["action"] == "stop"
    assert stopped.json()["vm"]["status"] == "stopped"
    deleted = serve(ask("DELETE", f"/vms/{vmid}", wait="wait=60"))
    assert deleted.status_code == 200
    assert deleted.json()["vmid"] == vmid
    assert "deleted" in deleted.json()["message"]
    assert deleted.json()["vm"]["id"] == vmid
    assert sim.guest(int(vmid)) is None


def test_a_cancel_that_is_waited_for_has_come_about(serve, sim, cluster):
    """Nobody carries it: its first turn, taken below, finds that it was canceled."""
    task = serve(ask("POST", "/vms", NEW)).json()["task_id"]

    async def cancel_and_work(client: httpx.AsyncClient) -> httpx.Response:
        answer = asyncio.create_task(ask("POST", f"/tasks/{task}/cancel", wait="wait=60")(client))
        while not await asyncio.to_thread(turn_of_the_canceled):
            await asyncio.sleep(0.02)
        return await answer

    def turn_of_the_canceled() -> bool:
        try:
            asked = Operation.objects.filter(uuid=task, cancel_requested_at__isnull=False).first()
            return asked is not None and engine.take_turn(asked.pk) is None
        finally:
            connection.close()

    answer = serve(cancel_and_work)
    assert answer.status_code == 200, answer.json()
    assert answer.json()["task"]["status"] == "canceled"


def test_a_batch_that_is_waited_for_answers_when_its_last_task_has_ended(serve, worker, sim):
    answer = serve(ask("POST", "/vms", {**NEW, "count": 2}, "wait=60"))
    body = answer.json()
    assert answer.status_code == 201, body
    assert [vm["status"] for vm in body["vms"]] == ["running", "running"]
    assert [task["status"] for task in body["tasks"]] == ["succeeded", "succeeded"]


def test_of_a_batch_that_failed_in_part_the_answer_lists_what_came_of_each(serve, worker, sim):
    sim.cause(accidents.fail_next_task, kind="qmclone", text="no space left on the pool")
    answer = serve(ask("POST", "/vms", {**NEW, "count": 2}, "wait=60"))
    body = answer.json()
    assert answer.status_code in {409, 502}
    assert "no space left on the pool" in body["error"]
    assert sorted(task["status"] for task in body["tasks"]) == ["failed", "succeeded"]
    assert len(body["vms"]) == 2


def test_a_task_that_fails_answers_with_its_error(serve, worker, sim):
    sim.cause(accidents.fail_next_task, kind="qmclone", text="no space left on the pool")
    answer = serve(ask("POST", "/vms", NEW, "wait=60"))
    body = answer.json()
    assert answer.status_code in {409, 502}
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert body["status"] == answer.status_code
    assert "no space left on the pool" in body["error"] == body["detail"]
    assert body["request_id"] == answer.headers["X-Request-ID"]
    assert Operation.objects.get(uuid=body["task_id"]).state == "failed"


def test_without_the_preference_it_answers_at_once(serve, cluster):
    answer = serve(ask("POST", "/vms", NEW))
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers


@pytest.mark.parametrize("prefer", ["wait=1", 'respond-async, wait="1"', "foo; wait=1"])
def test_when_the_time_is_over_it_answers_202(prefer, serve, cluster):
    started = time.monotonic()
    answer = serve(ask("POST", "/vms", NEW, prefer))
    assert 1 <= time.monotonic() - started < 4
    assert answer.status_code == 202
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.json()["task"]["status"] == "queued"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=-1", "wait=x", "return=minimal", "await=5"])
def test_a_preference_that_is_none_is_not_waited_for(prefer, serve, cluster):
    started = time.monotonic()
    answer = serve(ask("POST", "/vms", NEW, prefer))
    assert answer.status_code == 202
    assert "Preference-Applied" not in answer.headers
    assert time.monotonic() - started < 2


def test_refusals_are_not_waited_for(serve, cluster):
    answer = serve(ask("POST", "/vms", {**NEW, "name": "-"}, "wait=60"))
    assert answer.status_code == 400
    assert "Preference-Applied" not in answer.headers


@pytest.mark.services
def test_a_word_that_redis_lost_is_found_in_the_database(serve, cluster, monkeypatch):
    monkeypatch.setattr(waiting, "CHANNEL", f"{CHANNEL}:nobody-speaks-here")
    ended_at: list[float] = []

    async def talk(client: httpx.AsyncClient) -> httpx.Response:
        asked = asyncio.create_task(ask("POST", "/vms", NEW, "wait=30")(client))
        await end_all_accepted(1, ended_at)
        return await asked

    answer = serve(talk)
    assert answer.status_code == 409
    assert answer.json()["code"] == "canceled"
    assert time.monotonic() - ended_at[0] < 2.5


async def end_all_accepted(
    count: int, ended_at: list[float], meanwhile: Callable[[], None] = lambda: None
) -> None:
    """Wait until so many are accepted and waited for; then end them all, and say so."""

    def accepted() -> int:
        try:
            return Operation.objects.count()
        finally:
            connection.close()

    while await sync_to_async(accepted, thread_sensitive=False)() < count:
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.5)  # until they all wait
    for _ in range(10):
        meanwhile()
        await asyncio.sleep(0.02)

    def end() -> list[str]:
        try:
            uuids = [str(uuid) for uuid in Operation.objects.values_list("uuid", flat=True)]
            Claim.objects.all().delete()
            Operation.objects.update(
                state=CANCELED, ended_at=Now(), error_code="canceled", error="Canceled."
            )
            return uuids
        finally:
            connection.close()

    uuids = await sync_to_async(end, thread_sensitive=False)()
    ended_at.append(time.monotonic())
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for uuid in uuids:
            client.publish(CHANNEL, uuid)


@pytest.mark.services
def test_two_hundred_who_wait_hold_no_database_connection(serve, cluster, project):
    many = 200
    VirtualMachine.objects.bulk_create(
        # Known already: a VM that was never read is asked for before its action is accepted.
        VirtualMachine(
            cluster=cluster, vmid=2000 + n, node="pve", power=STOPPED, smbios_uuid=uuid.uuid4()
        )
        for n in range(many)
    )
    in_use: list[int] = []
    ended_at: list[float] = []

    def look() -> None:
        """Connections that the pool has lent, beside the one that asks."""
        stats = connections["default"].pool.get_stats()  # type: ignore[attr-defined]
        in_use.append(stats.get("pool_size", 0) - stats.get("pool_available", 0))

    async def talk(client: httpx.AsyncClient) -> list[httpx.Response]:
        asked = [
            asyncio.create_task(
                ask("POST", f"/vms/{2000 + n}/actions", {"action": "start"}, "wait=60")(client)
            )
            for n in range(many)
        ]
        await end_all_accepted(many, ended_at, meanwhile=look)
        return await asyncio.gather(*asked)

    answers = serve(talk)
    took = time.monotonic() - ended_at[0]
    assert {answer.status_code for answer in answers} == {409}
    # One look each second is for all of them together; the first ones, when each begins to wait,
    # take no more connections than the layer has threads.
    assert len(in_use) == 10
    assert statistics.median(in_use) <= 1, in_use
    assert max(in_use) <= THREADS + 1, in_use
    assert took < 10


def test_it_waits_for_whatever_ended_before_it_listened(serve, cluster, operator, sim, worker):
    vm = a_vm(sim, operator, running=False)
    for _ in range(3):
        for action in ("start", "stop"):
            body = {"action": action} | ({"force": True} if action == "stop" else {})
            answer = serve(ask("POST", f"/vms/{vm.vmid}/actions", body, "wait=30"))
            assert answer.status_code == 200, answer.text


def test_a_body_without_a_length_is_read(serve, cluster):
    """As clients send it that do not know the length beforehand."""

    def sending(body: bytes) -> Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]:
        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(body), 65_536):
                yield body[start : start + 65_536]

        async def talk(client: httpx.AsyncClient) -> httpx.Response:
            headers = {"Content-Type": "application/json"}
            return await client.post(f"{API}/vms", content=pieces(), headers=headers)

        return talk

    assert serve(sending(json.dumps(NEW).encode())).status_code == 202
    answer = serve(sending(b"x" * 2 * 1024 * 1024))
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"


def test_who_hangs_up_is_not_waited_for_any_longer(project, cluster, monkeypatch):
    """The server's word that the client is gone ends the waiting; nothing is sent to nobody."""
    _, token = ApiToken.objects.issue(name="impatient", project=project, role=OPERATOR)
    body = json.dumps(NEW).encode()
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": f"{API}/vms",
        "raw_path": f"{API}/vms".encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 8082),
        "client": ("127.0.0.1", 50000),
        "headers": [
            (b"host", b"localhost"),
            (b"authorization", f"Bearer {token}".encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"prefer", b"wait=300"),
        ],
    }
    sent: list[Any] = []

    async def talk() -> None:
        hung_up = asyncio.Event()
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if left:
                return left.pop()
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        served = asyncio.create_task(application(scope, receive, send))
        # Django listens for the end of the connection too: hang up only when it has answered.
        while not _waits_for_an_end():
            assert not served.done(), sent
            await asyncio.sleep(0.01)
        hung_up.set()
        await asyncio.wait_for(served, 5)
        await sync_to_async(connections.close_all)()

    asyncio.run(talk())
    assert sent == []
    assert not _waits_for_an_end()


def _waits_for_an_end() -> bool:
    layer = application.app
    assert isinstance(layer, waiting.WaitLayer)
    return bool(layer.ends._waiting)


def test_when_the_server_ends_who_waits_is_answered_with_how_it_is(project, cluster):
    _, token = ApiToken.objects.issue(name="ending", project=project, role=OPERATOR)
    answers: list[httpx.Response] = []

    def wait(url: str) -> None:
        headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=60"}
        answers.append(httpx.post(f"{url}{API}/vms", json=NEW, headers=headers, timeout=30))

    with web_server() as url:
        asking = threading.Thread(target=wait, args=[url])
        asking.start()
        wait_until(_waits_for_an_end, "the waiting")
    asking.join(10)
    assert answers[0].status_code == 202
    assert answers[0].json()["task"]["status"] == "queued"
