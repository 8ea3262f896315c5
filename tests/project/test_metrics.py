"""What Prometheus is told, by whom it may be asked, and that no label can grow without end."""

from __future__ import annotations

import datetime
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from rest_framework.test import APIClient

from accounts.actors import MEMBER, OPERATOR, VIEWER
from clusters.models import Cluster
from operations.models import Lane, LaneTicket, Operation
from tests.conftest import client_with
from tests.vms.cast import a_new_vm
from vms import actions

pytestmark = pytest.mark.django_db

ELSEWHERE: dict[str, Any] = {"REMOTE_ADDR": "192.0.2.7"}
HERE: dict[str, Any] = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8082"}


def scraped(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(client: APIClient) -> dict[Any, float]:
    answer = client.get("/metrics", **HERE)
    assert answer.status_code == 200, answer.content
    return scraped(answer.content.decode())


def value(found: dict[Any, float], name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


# --- who may ask ---


def test_an_operators_token_may_scrape_from_anywhere(project):
    answer = client_with(project, OPERATOR).get("/metrics", **ELSEWHERE)
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/plain; version=")
    assert b"izvor_up{" in answer.content


def test_whoever_asks_for_another_format_gets_the_one_there_is(project):
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    answer = APIClient().get("/metrics", HTTP_ACCEPT=accept, **HERE)
    assert answer.status_code == 200


@pytest.mark.parametrize("role", [VIEWER, MEMBER])
def test_other_tokens_may_not(role, project):
    answer = client_with(project, role).get("/metrics", **ELSEWHERE)
    assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
    assert answer.json()["code"] == "not_allowed"


def test_nobody_may_from_elsewhere(project):
    answer = APIClient().get("/metrics", **ELSEWHERE)
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
    assert answer["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_X_FORWARDED_FOR": "192.0.2.7"},
        {"HTTP_FORWARDED": "for=192.0.2.7"},
        {"HTTP_X_REAL_IP": "192.0.2.7"},
        {"HTTP_HOST": "izvor.example.com"},
    ],
    ids=str,
)
def test_loopback_is_no_proof_where_a_proxy_shows(changes, project, settings):
    settings.ALLOWED_HOSTS = ["izvor.example.com", "127.0.0.1"]
    assert APIClient().get("/metrics", **HERE).status_code == 200
    assert APIClient().get("/metrics", **(HERE | changes)).status_code == 401


def test_loopback_is_no_proof_where_a_proxy_is_set_up(project, settings):
    settings.IZVOR_TRUSTED_PROXIES = ["127.0.0.1"]
    assert APIClient().get("/metrics", **HERE).status_code == 401


# --- the rows ---


def test_unfinished_operations_are_counted_and_the_untaken_are_late(cluster, operator):
    before = scrape(APIClient())
    assert value(before, "izvor_operations_due_untaken") == 0
    _, operation = actions.create_vm(asked=a_new_vm(linked=True), by=operator)
    late = timezone.now() - datetime.timedelta(seconds=90)
    Operation.objects.filter(pk=operation.pk).update(
        due_at=late, created_at=late, waiting_for="a place in lane node:pve"
    )
    found = scrape(APIClient())
    labels = {"kind": "create_vm", "state": "queued"}
    assert value(found, "izvor_operations", **labels) == 1
    assert value(found, "izvor_operations_waiting", **labels) == 1
    assert 90 <= value(found, "izvor_operation_oldest_seconds", **labels) < 150
    assert value(found, "izvor_operations_due_untaken") == 1
    assert 90 <= value(found, "izvor_operation_due_lag_seconds") < 150
    assert value(found, "izvor_vms", cluster="demo", status="creating") == 1

    held = timezone.now() + datetime.timedelta(seconds=20)
    Operation.objects.filter(pk=operation.pk).update(lease_until=held)
    assert value(scrape(APIClient()), "izvor_operations_due_untaken") == 0


def test_lanes_show_their_limit_who_is_through_and_who_waits(cluster, operator):
    operations = [
        actions.create_vm(asked=a_new_vm(linked=True, name=f"web-{n}"), by=operator)[1]
        for n in range(3)
    ]
    Lane.objects.filter(key="storage:ceph").update(limit=1)
    assert LaneTicket.objects.filter(operation=operations[0]).update(is_through=True)
    for vmid in (101, 102):
        Lane.objects.create(cluster=cluster, key=f"source:{vmid}", limit=1)
    found = scrape(APIClient())
    labels = {"cluster": "demo", "lane": "storage:ceph"}
    names = ("limit", "through", "waiting")
    assert [value(found, f"izvor_lane_{name}", **labels) for name in names] == [1, 1, 2]
    assert value(found, "izvor_lane_limit", cluster="demo", lane="source") == 2
    assert not [key for key in found if "source:" in str(key)], "a label for each VM"


def test_clusters_show_their_state_and_how_old_their_inventory_is(cluster, operator):
    old = timezone.now() - datetime.timedelta(seconds=300)
    Cluster.objects.filter(pk=cluster.pk).update(seen_at=old, state="unreachable")
    found = scrape(APIClient())
    assert value(found, "izvor_cluster_state", cluster="demo", state="unreachable") == 1
    assert value(found, "izvor_cluster_state", cluster="demo", state="online") == 0
    assert 300 <= value(found, "izvor_inventory_age_seconds", cluster="demo") < 400
    assert value(found, "izvor_poller_lag_seconds", cluster="demo") == 0


def test_a_poller_that_does_not_come_is_late(cluster, operator):
    old = timezone.now() - datetime.timedelta(seconds=300)
    _, operation = actions.create_vm(asked=a_new_vm(linked=True), by=operator)
    Operation.objects.filter(pk=operation.pk).update(
        state="running", submitted_at=old, upid="UPID:pve:0:0:0:qmclone:9000:izvor@pve:"
    )
    assert 300 <= value(scrape(APIClient()), "izvor_poller_lag_seconds", cluster="demo") < 400
    Cluster.objects.filter(pk=cluster.pk).update(poll_lease_until=timezone.now())
    assert value(scrape(APIClient()), "izvor_poller_lag_seconds", cluster="demo") < 60


def test_a_scrape_asks_the_database_a_few_times_however_much_there_is(
    cluster, operator, django_assert_max_num_queries
):
    for n in range(5):
        actions.create_vm(asked=a_new_vm(linked=True, name=f"web-{n}"), by=operator)
    scrape(APIClient())
    with django_assert_max_num_queries(7):
        scrape(APIClient())


@pytest.mark.services
def test_the_depth_of_celerys_queues_is_what_workers_find(cluster):
    from celery import current_app

    current_app.control.purge()
    assert value(scrape(APIClient()), "izvor_queue_depth", queue="turns") == 0
    for _ in range(3):
        current_app.send_task("operations.turn", args=(0,), queue="turns")
    current_app.send_task("operations.poll", args=(0,), queue="watch")
    found = scrape(APIClient())
    assert value(found, "izvor_queue_depth", queue="turns") == 3
    assert value(found, "izvor_queue_depth", queue="watch") == 1
    current_app.control.purge()


def test_without_redis_the_rest_is_there(project, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    found = scrape(APIClient())
    assert value(found, "izvor_up", service="redis") == 0
    assert value(found, "izvor_up", service="database") == 1
    assert value(found, "izvor_operations_due_untaken") == 0


# --- what processes count ---


def test_requests_are_counted_by_route_and_never_by_address(api, cluster):
    series = "izvor_http_request_seconds_count"
    labels = {"method": "GET", "route": "/api/v1/vms/<pk>", "status": "200"}
    before = scrape(APIClient()).get((series, tuple(sorted(labels.items()))), 0)
    assert api.get("/api/v1/vms/100").status_code == 200
    assert api.get("/api/v1/vms/101").status_code == 200
    assert api.get("/api/v1/nothing-4711").status_code == 404
    assert api.generic("FROB", "/api/v1/vms").status_code == 405
    found = scrape(APIClient())
    assert value(found, series, **labels) == before + 2
    routes = {dict(key[1]).get("route") for key in found}
    assert not [route for route in routes if route and re.search(r"\d{3}", route)], routes
    assert {dict(key[1])["method"] for key in found if key[0] == series} >= {"GET", "other"}
    assert "FROB" not in str(found)


def test_operations_steps_and_proxmox_calls_are_counted(
    cluster, operator, work, django_capture_on_commit_callbacks
):
    ends = {"kind": "create_vm", "state": "succeeded", "code": ""}
    key = ("izvor_operation_ends_total", tuple(sorted(ends.items())))
    before = scrape(APIClient()).get(key, 0)
    with django_capture_on_commit_callbacks(execute=True):
        _, operation = actions.create_vm(asked=a_new_vm(linked=True), by=operator)
        assert work(operation).state == "succeeded"
    found = scrape(APIClient())
    assert found[key] == before + 1
    steps = {
        dict(labels)["step"]
        for name, labels in found
        if name == "izvor_operation_step_seconds_count" and dict(labels)["kind"] == "create_vm"
    }
    assert {"clone", "configure"} <= steps
    calls = "izvor_proxmox_call_seconds_count"
    path = "nodes/{node}/qemu/{vmid}/clone"
    assert value(found, calls, method="POST", path=path, outcome="ok") >= 1
    paths = {dict(labels)["path"] for name, labels in found if name == calls}
    assert not [path for path in paths if re.search(r"\d{3}", path)], paths


# --- workers, and several web processes ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def started(command: list[str], **env: str) -> subprocess.Popen[bytes]:
    database = urlsplit(os.environ["DATABASE_URL"])
    ours = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database._replace(path=f"/{connection.settings_dict['NAME']}").geturl(),
    }
    return subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **ours, **env},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def read_when_served(url: str, seconds: float = 60) -> str:
    ends = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError:
            raise
        except OSError:
            assert time.monotonic() < ends, f"{url} did not answer in {seconds} s"
            time.sleep(0.1)


@pytest.fixture
def process() -> Iterator[Any]:
    running: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **env: str) -> subprocess.Popen[bytes]:
        running.append(started(command, **env))
        return running[-1]

    yield start
    for each in running:
        each.terminate()
        each.wait(20)


@pytest.mark.slow
def test_a_worker_shows_its_own_counts_on_a_port_of_its_own(process):
    port = free_port()
    command = ["-m", "celery", "-A", "izvor_project", "worker", "--pool", "threads", "-c", "1"]
    command += ["-n", f"metrics-{os.getpid()}@localhost"]
    process(command, IZVOR_WORKER_METRICS_PORT=str(port), IZVOR_REDIS_PREFIX="izvor-metrics")
    text = read_when_served(f"http://127.0.0.1:{port}/metrics")
    assert "izvor_operation_step_seconds" in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.slow
def test_several_web_processes_add_their_counts_up(process):
    port = free_port()
    process(
        ["manage.py", "serve"],
        IZVOR_PORT=str(port),
        IZVOR_WEB_PROCESSES="2",
        IZVOR_AUTH="none",
    )
    address = f"http://127.0.0.1:{port}"
    assert "healthy" in read_when_served(f"{address}/health/live")
    asked = 20
    for _ in range(asked):
        read_when_served(f"{address}/health/live")
    labels = {"method": "GET", "route": "/health/live", "status": "200"}
    for _ in range(5):
        found = scraped(read_when_served(f"{address}/metrics"))
        assert value(found, "izvor_http_request_seconds_count", **labels) == asked + 1


assert django_settings.IZVOR_WORKER_METRICS_PORT == 0, "the tests' workers choose their own"
