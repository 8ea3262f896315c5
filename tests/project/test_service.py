"""The service around the API: health, logs, secrets, `prepare`, sizes, the schema."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import yaml
from django.apps import apps
from django.conf import settings as django_settings
from django.core.management import call_command
from django.utils import timezone

from accounts.models import ApiToken, Project
from clusters.models import ONLINE, SIMULATOR, UNREACHABLE, Cluster
from izvor_project.api.summaries import SUMMARIES
from operations.models import Operation
from operations.tasks import turn
from operations.views import STATES
from pve_simulator.testing import SimulatorThread
from tests.conftest import SSH_KEY
from tests.inventory.test_clusters import env_for
from tests.leaks import everything_in_redis, everything_logged, everything_stored
from vms.models import STATUSES, Size
from vms.series import TIMEFRAMES

pytestmark = pytest.mark.django_db

API = "/api/v1"


# --- health ---


def a_cluster(name: str, state: str, **values: Any) -> Cluster:
    made: Cluster = Cluster.objects.create(
        name=name, endpoints=["https://127.0.0.1:1"], state=state, **values
    )
    return made


def test_healthy_while_one_cluster_answers(client):
    a_cluster("one", UNREACHABLE, error="no route to host")
    a_cluster("two", ONLINE, version="8.4.1", seen_at=timezone.now())
    a_cluster("off", UNREACHABLE, is_enabled=False)
    answer = client.get("/health")
    body = answer.json()
    assert answer.status_code == 200
    assert (body["status"], body["service"]) == ("healthy", "izvor")
    assert body["proxmox_version"] == "8.4.1"
    listed = {cluster["name"]: cluster for cluster in body["clusters"]}
    assert set(listed) == {"one", "two"}
    assert listed["one"]["error"] == "no route to host"


def test_unhealthy_when_none_answers_or_none_is_there(client):
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["status"] == "unhealthy"
    assert answer.json()["service"] == "izvor"
    assert "PROXMOX_URL" in answer.json()["error"]
    a_cluster("one", UNREACHABLE, error="no route to host")
    answer = client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["error"] == "no route to host"


@pytest.mark.services
def test_live_and_ready(client, settings):
    assert client.get("/health/live").status_code == 200
    assert client.get("/health/ready").json()["status"] == "healthy"
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    answer = client.get("/health/ready")
    assert answer.status_code == 503
    assert "Redis" in answer.json()["error"]
    assert client.get("/health/live").status_code == 200


def test_health_needs_no_token_and_no_cookie(client):
    for path in ("/health", "/health/live", "/health/ready"):
        answer = client.get(path)
        assert answer.status_code in {200, 503}
        assert not answer.cookies


# --- logs ---


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    with everything_logged() as text:
        yield text


def lines_of(text: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_log_lines_carry_the_request_and_the_task(logged, api, cluster):
    body = {"name": "web", "template": "ubuntu-22.04", "linked": True}
    answer = api.post(f"{API}/vms", body, headers={"X-Request-ID": "traced-1"})
    line = next(line for line in lines_of(logged) if line["event"] == "request")
    assert line["request_id"] == "traced-1"
    assert (line["method"], line["path"], line["status"]) == ("POST", f"{API}/vms", 202)
    assert line["ms"] >= 0

    task = answer.json()["task_id"]
    Operation.objects.filter(uuid=task).update(cancel_requested_at=timezone.now())
    turn(Operation.objects.get(uuid=task).pk)
    ended = next(line for line in lines_of(logged) if line["event"] == "operation_ended")
    assert ended["task"] == task
    assert ended["request_id"] == "traced-1"


def test_a_request_can_be_followed_through_the_log_to_its_proxmox_tasks(logged, api, cluster, work):
    body = {"name": "web", "template": "ubuntu-22.04", "linked": True}
    answer = api.post(f"{API}/vms", body, headers={"X-Request-ID": "traced-2"})
    task = answer.json()["task_id"]
    assert work(task).state == "succeeded"
    of_task = [line for line in lines_of(logged) if line.get("task") == task]
    assert {line["request_id"] for line in of_task} == {"traced-2"}
    upids = [upid for step in Operation.objects.get(uuid=task).steps for upid in step["upids"]]
    assert upids
    for event in ("proxmox_task_started", "proxmox_task_ended"):
        assert [line["upid"] for line in of_task if line["event"] == event] == upids
    assert of_task[-1]["event"] == "operation_ended"


def test_an_operation_that_no_request_asked_for_has_no_request_id(logged, operator, cluster, work):
    from tests.vms.cast import a_new_vm
    from vms import actions

    _, operation = actions.create_vm(asked=a_new_vm(linked=True), by=operator)
    assert operation.request_id == ""
    work(operation)
    ended = next(line for line in lines_of(logged) if line["event"] == "operation_ended")
    assert ended["task"] == str(operation.uuid)
    assert "request_id" not in ended


# --- secrets ---

PASSWORD = "marker-cloud-init-7f3a"
TOKEN_SECRET = "11111111-2222-4333-8444-marker0token"


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_no_secret_shows_anywhere(logged, project, work_on):
    with SimulatorThread(speed=50, seed=1, tokens={"root@pam!izvor": TOKEN_SECRET}) as sim:
        cluster, run = work_on(sim)
        heard = redis.Redis.from_url(django_settings.REDIS_URL).pubsub()
        heard.psubscribe("*")
        _, token = ApiToken.objects.issue(name="marker", project=project, role="operator")
        from rest_framework.test import APIClient

        api = APIClient()
        api.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        body = {
            "name": "web",
            "template": "ubuntu-22.04",
            "linked": True,
            "cloud_init": {"user": "admin", "password": PASSWORD, "ssh_keys": [SSH_KEY]},
        }
        answers = [api.post(f"{API}/vms", body)]
        task = answers[0].json()["task_id"]
        queued = everything_stored()
        assert run(task).state == "succeeded"
        assert "cipassword" in str(sim.calls_to("PUT", "/config$")), "it went to Proxmox"
        vmid = answers[0].json()["vmid"]
        answers += [
            api.get(f"{API}{path}")
            for path in (
                "/vms",
                f"/vms/{vmid}?refresh=true",
                "/tasks",
                f"/tasks/{task}",
                f"/tasks/{task}/log",
            )
        ]
        answers.append(api.post(f"{API}/vms", {**body, "name": "-"}))
        cluster.refresh_from_db()
        shown = repr(cluster) + repr(vars(cluster)) + repr(Operation.objects.get(uuid=task))
        words = []
        while (message := heard.get_message(timeout=0.2)) is not None:
            words.append(repr(message))
        heard.close()
        places = {
            "answers": b"".join(answer.content for answer in answers).decode(),
            "logs": logged.getvalue(),
            "rows while it ran": queued,
            "rows": everything_stored(),
            "repr": shown,
            "Redis": "".join(words) + everything_in_redis(),
        }
        for place, text in places.items():
            for secret in (PASSWORD, TOKEN_SECRET, token):
                assert secret not in text, f"a secret shows in {place}"
        assert answers[2].json()["cloud_init"]["password_set"] is True
        assert Operation.objects.get(uuid=task).sealed_params == ""


@pytest.fixture
def work_on(project: Project) -> Any:
    from clusters.connect import forget_clients
    from inventory import cycle
    from tests.conftest import run_until

    def begin(sim: SimulatorThread) -> Any:
        cluster = Cluster(
            name="demo",
            kind=SIMULATOR,
            endpoints=[sim.url],
            token_id=sim.token_id,
            ca_pem=sim.ca_file.read_text(),
        )
        cluster.secret = TOKEN_SECRET
        cluster.save()
        cycle.look_at(cluster)

        def run(task: str) -> Operation:
            ended: Operation = run_until(
                lambda: Operation.objects.get(uuid=task), lambda o: o.is_ended
            )
            return ended

        return cluster, run

    yield begin
    forget_clients()


# --- prepare ---


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_prepare_sets_up_and_a_second_time_changes_nothing(sim, project, settings, monkeypatch):
    settings.PROXMOX = env_for(sim)
    monkeypatch.setenv("IZVOR_ADMIN_USERNAME", "root")
    monkeypatch.setenv("IZVOR_ADMIN_PASSWORD", "correct horse battery")
    out = io.StringIO()
    call_command("prepare", stdout=out)
    assert "is online" in out.getvalue()
    assert "Made the admin login root." in out.getvalue()
    cluster = Cluster.objects.get()
    assert (cluster.state, cluster.vms.count(), cluster.templates.count()) == (ONLINE, 8, 3)
    assert cluster.templates.exclude(details_at=None).count() == 3

    from django.contrib.auth import get_user_model

    user = get_user_model().objects.get(username="root")
    assert user.check_password("correct horse battery")
    monkeypatch.setenv("IZVOR_ADMIN_PASSWORD", "another one")
    again = io.StringIO()
    call_command("prepare", stdout=again)
    assert "Made" not in again.getvalue()
    user.refresh_from_db()
    assert user.check_password("correct horse battery")
    assert (Cluster.objects.count(), cluster.vms.count()) == (1, 8)


def test_prepare_without_a_cluster_says_what_to_do(settings, project):
    settings.PROXMOX = {**django_settings.PROXMOX, "url": ""}
    out = io.StringIO()
    call_command("prepare", stdout=out)
    assert "PROXMOX_URL" in out.getvalue()


# --- sizes ---


def test_an_operators_edit_and_removal_of_a_size_survive_migrations(project):
    Size.objects.filter(name="nano").update(cores=3)
    Size.objects.filter(name="micro").delete()
    call_command("migrate", interactive=False, verbosity=0)
    assert Size.objects.get(name="nano").cores == 3
    assert not Size.objects.filter(name="micro").exists()


def test_no_migration_is_missing():
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_every_app_of_ours_has_a_name_for_the_admin():
    ours = {"accounts", "events", "clusters", "operations", "templates_app", "vms", "inventory"}
    assert ours <= {config.label for config in apps.get_app_configs()}


# --- the schema ---


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    from drf_spectacular.generators import SchemaGenerator

    return dict(SchemaGenerator().get_schema(request=None, public=True))


@pytest.mark.parametrize(
    ("accept", "read"),
    [
        ("application/json", json.loads),
        ("application/yaml", yaml.safe_load),
        ("*/*", yaml.safe_load),
    ],
)
def test_the_schema_is_openapi_3_1(accept, read, client, capfd):
    answer = client.get("/api/schema", headers={"Accept": accept})
    assert answer.status_code == 200
    schema = read(answer.content)
    assert schema["openapi"].startswith("3.1")
    assert "/api/v1/vms/{id}/actions" in schema["paths"]
    assert capfd.readouterr().err == "", "each route says what it takes and gives"


def test_the_schema_is_valid(schema):
    from drf_spectacular.validation import validate_schema

    validate_schema(schema)
    create = schema["paths"]["/api/v1/vms"]["post"]
    assert "CreateVm" in str(create["requestBody"])
    fields = schema["components"]["schemas"]["CreateVm"]["properties"]
    assert {"name", "template", "size", "cloud_init", "start_on_create"} <= set(fields)
    assert "application/problem+json" in create["responses"]["default"]["content"]


def test_every_operation_has_a_summary_of_one_line(schema):
    operations = [op for item in schema["paths"].values() for op in item.values()]
    summaries = [op["summary"] for op in operations]
    assert all(0 < len(summary) <= 60 and summary.isprintable() for summary in summaries)
    assert set(SUMMARIES.values()) == set(summaries), "none is of an endpoint that is gone"


def test_what_is_one_of_a_few_words_says_which(schema):
    def asked(path: str) -> dict[str, Any]:
        return {p["name"]: p["schema"] for p in schema["paths"][path]["get"]["parameters"]}

    assert set(asked("/api/v1/vms")["status"]["enum"]) == set(STATUSES)
    assert set(asked("/api/v1/tasks")["status"]["enum"]) == set(STATES)
    assert set(asked("/api/v1/nodes/{id}/metrics")["timeframe"]["enum"]) == set(TIMEFRAMES)
    assert asked("/api/v1/vms/{id}")["refresh"]["type"] == "boolean"
    limit = asked("/api/v1/vms")["limit"]
    assert (limit["type"], limit["minimum"], limit["maximum"]) == ("integer", 1, 1000)


def test_the_docs_need_no_other_server(client):
    page = client.get("/api/docs")
    assert page.status_code == 200
    text = page.content.decode()
    assert "http://" not in text.replace("http://testserver", "")
    assert "https://" not in text
    assets = [part.split('"')[0] for part in text.split('src="')[1:]]
    assets += [part.split('"')[0] for part in text.split('href="')[1:]]
    assert assets
    # The page's own script is a file of its own, as its policy allows no inline one.
    (script,) = [asset for asset in assets if not asset.startswith("/static/")]
    assert script.startswith("/api/docs?")
    words = client.get(script).content.decode()
    assert "SwaggerUIBundle" in words
    assert "//" not in words.replace("http://testserver", "").replace("// ", "")
