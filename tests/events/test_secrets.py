"""Secrets that were given to Izvor, or made by it, are in nothing that it wrote, sent or said."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.test import Client
from rest_framework.test import APIClient

from accounts.actors import OPERATOR
from accounts.models import ApiToken, Project
from clusters.models import Cluster
from events import deliveries, outbox
from events.models import Delivery, Webhook
from operations.models import Operation
from tests.admin.shapes import page
from tests.conftest import SSH_KEY
from tests.events.receiver import receiving
from tests.leaks import everything_in_redis, everything_logged, everything_stored

pytestmark = pytest.mark.django_db(transaction=True)

API = "/api/v1"
PASSWORD = "marker-cloud-init-5d1e"
CLUSTER_SECRET = "marker-cluster-5d1e"
LOGIN = "marker-login-5d1e"


@pytest.mark.services
def test_no_secret_is_in_rows_redis_logs_answers_or_deliveries(
    cluster: Cluster, project: Project, work: Any, settings: Any
) -> None:
    settings.WEBHOOKS = {**settings.WEBHOOKS, "allow_private": True, "backoff_s": 0.01}
    _, asking = ApiToken.objects.issue(name="asking", project=project, role=OPERATOR)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {asking}")
    heard = redis.Redis.from_url(django_settings.REDIS_URL).pubsub()
    heard.psubscribe("*")
    answers: list[Any] = []

    def ask(method: str, path: str, body: Any = None, **headers: str) -> Any:
        raw = "" if body is None else json.dumps(body)
        answer = client.generic(
            method, API + path, raw, content_type="application/json", headers=headers
        )
        answers.append(answer)
        return answer

    with everything_logged() as logged, receiving() as receiver:
        key = {"Idempotency-Key": "k1"}
        made = ask("POST", "/tokens", {"name": "marker"}, **key)
        everything = {"url": receiver.url(), "project": None}
        hook = ask("POST", "/webhooks", everything, **{"Idempotency-Key": "k2"})
        # The answers that show them, once and on purpose.
        secrets = {
            "token": made.json()["secret"],
            "webhook secret": hook.json()["secret"],
            "the asking token": asking,
            "cloud-init password": PASSWORD,
            "cluster secret": CLUSTER_SECRET,
            "login password": LOGIN,
        }
        del answers[:]
        ask("POST", "/tokens", {"name": "marker"}, **key)
        vm = ask(
            "POST",
            "/vms",
            {
                "name": "web",
                "template": "ubuntu-22.04",
                "linked": True,
                "cloud_init": {"user": "admin", "password": PASSWORD, "ssh_keys": [SSH_KEY]},
            },
        ).json()
        while_it_ran = everything_stored() + everything_in_redis()
        assert work(vm["task_id"]).state == "succeeded"
        receiver.say(500, b"no")
        outbox.publish()
        deliveries.work()
        webhook = Webhook.objects.get()
        ask("POST", f"/webhooks/{webhook.uuid}/test")
        receiver.say(200)
        deliveries.work()
        assert len(receiver.heard) > 5
        for path in (
            "/tokens",
            "/webhooks",
            f"/webhooks/{webhook.uuid}",
            f"/webhooks/{webhook.uuid}/deliveries",
            "/projects",
            "/quotas",
            "/vms",
            f"/vms/{vm['vmid']}?refresh=true",
            "/tasks",
            f"/tasks/{vm['task_id']}",
            f"/tasks/{vm['task_id']}/log",
        ):
            assert ask("GET", path).status_code == 200, path
        # From now on Proxmox refuses us.
        browse(cluster)
        for path in ("/clusters", "/audit"):
            assert ask("GET", path).status_code == 200, path
        words = []
        while (message := heard.get_message(timeout=0.2)) is not None:
            words.append(repr(message))
        heard.close()
        places = {
            "answers": b"".join(answer.content for answer in answers).decode(),
            "logs": logged.getvalue(),
            "rows and Redis while it ran": while_it_ran,
            "rows": everything_stored(),
            "Redis": "".join(words) + everything_in_redis(),
            "deliveries": repr(receiver.heard),
            "repr": repr([vars(row) for row in (webhook, cluster)]),
        }
    assert "webhook.ping" in places["deliveries"]
    assert "task.succeeded" in places["answers"]
    for place, text in places.items():
        for name, secret in secrets.items():
            assert secret not in text, f"the {name} shows in {place}"
    # They are there all the same, sealed.
    cluster.refresh_from_db()
    assert webhook.secret == secrets["webhook secret"]
    assert cluster.secret == CLUSTER_SECRET
    assert Delivery.objects.exists()
    assert Operation.objects.get(uuid=vm["task_id"]).params


def browse(cluster: Cluster) -> None:
    """In the admin: log in, and set a cluster's secret."""
    User.objects.create_superuser("ana", password=LOGIN)
    browser = Client()
    for password in ("wrong", LOGIN):
        browser.post("/admin/login/?next=/admin/", {"username": "ana", "password": password})
    browser.post("/admin/login/", {"username": LOGIN, "password": "in the wrong field"})
    form = {
        "name": cluster.name,
        "is_enabled": "on",
        "endpoints": ",".join(cluster.endpoints),
        "user": cluster.user,
        "token_id": cluster.token_id,
        "ca_pem": cluster.ca_pem,
        "vmid_min": 100,
        "vmid_max": cluster.vmid_max,
        "new_secret": CLUSTER_SECRET,
    }
    assert browser.post(page(Cluster, "change", cluster.pk), form).status_code == 302
