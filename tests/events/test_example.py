"""The example receiver, as a program: it verifies, and manages a VM with a token of its own."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.conf import settings as django_settings

from accounts.actors import MEMBER
from accounts.models import ApiToken
from events import deliveries, outbox
from events.models import Delivery, Webhook, record_event
from events.sending import signature
from events.webhooks import change_webhook, create_webhook
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

EXAMPLE = Path(django_settings.BASE_DIR) / "examples" / "webhook_receiver.py"
NEW = {"name": "fn-1", "template": "ubuntu-22.04", "linked": True, "cores": 1, "memory": 512}


class Program:
    """The example, running; `said` gives its next line."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._lines: queue.Queue[str] = queue.Queue()
        assert process.stdout is not None
        output = process.stdout

        def read() -> None:
            for line in output:
                self._lines.put(line.strip())

        self.thread = threading.Thread(target=read)
        self.thread.start()
        self.port = int(self.said().rpartition(" ")[2])

    def said(self) -> str:
        return self._lines.get(timeout=20)


@contextmanager
def running(secret: str, web: str, token: str) -> Iterator[Program]:
    env = {**os.environ, "IMPULS_SECRET": secret, "IZVOR_URL": web, "IZVOR_TOKEN": token}
    command = [sys.executable, str(EXAMPLE), "0"]
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)
    program = None
    try:
        program = Program(process)
        yield program
    finally:
        process.terminate()
        process.wait(10)
        if program is not None:
            program.thread.join(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def hear(web: str, project: Any, operator: Any, settings: Any) -> Callable[..., Any]:
    """Runs the example as Impuls, with its own token, on a webhook of its own."""
    settings.WEBHOOKS = {**settings.WEBHOOKS, "allow_private": True, "backoff_s": 0.01}
    _, token = ApiToken.objects.issue(name="impuls", project=project, role=MEMBER)

    @contextmanager
    def begin(secret: str = "") -> Iterator[Program]:
        webhook, real = create_webhook(
            url="http://127.0.0.1:1/",
            project=project,
            types=["task.succeeded", "vm.*"],
            by=operator,
        )
        with running(secret or real, web, token) as program:
            change_webhook(webhook, url=f"http://127.0.0.1:{program.port}/izvor", by=operator)
            yield program

    return begin


def deliver() -> None:
    outbox.publish()
    deliveries.work()


def test_impuls_marks_the_vm_that_was_made_for_it(hear, cluster, work, web, project, operator):
    _, token = ApiToken.objects.issue(name="customer", project=project, role=MEMBER)
    headers = {"Authorization": f"Bearer {token}"}
    with hear() as impuls:
        made = httpx.post(f"{web}/api/v1/vms", json=NEW, headers=headers, timeout=20).json()
        assert work(made["task_id"]).state == "succeeded"
        deliver()
        assert "is ready for functions" in impuls.said()
        vm = VirtualMachine.objects.get(vmid=made["vmid"])
        assert vm.metadata == {"impuls": "ready", "impuls-task": made["task_id"]}
        # Its own change is told, too, and names its token.
        deliver()
        assert impuls.said().startswith("vm.metadata_changed")
        assert not Delivery.objects.exclude(state="succeeded").exists()
        # The same delivery once more is not done once more.
        VirtualMachine.objects.update(metadata={})
        first = Delivery.objects.get(event__kind="task.succeeded")
        deliveries.redeliver(first, by=operator)
        deliver()
        first.refresh_from_db()
        assert (first.state, first.attempts) == ("succeeded", 1)
        vm.refresh_from_db()
        assert vm.metadata == {}


def test_what_is_not_signed_with_its_secret_is_refused(hear, project):
    with hear(secret="whsec_another"):
        record_event("vm.missing", by="x", project_id=project.pk, label="108 web")
        deliver()
        delivery = Delivery.objects.get(event__kind="vm.missing")
        assert (delivery.state, delivery.response_status) == ("pending", 401)


def test_an_old_signature_and_a_changed_body_are_refused(hear, project):
    with hear() as impuls:
        secret = Webhook.objects.get().secret
        body = b'{"type": "vm.missing", "label": "x", "details": {}}'
        now = int(time.time())
        for at, sent, status in ((now, body, 204), (now - 301, body, 401), (now, body + b" ", 401)):
            headers = {"Izvor-Signature": signature(secret, body, at), "Izvor-Delivery": str(at)}
            answer = httpx.post(f"http://127.0.0.1:{impuls.port}/", content=sent, headers=headers)
            assert answer.status_code == status


def test_what_it_cannot_do_now_it_is_told_again(hear, project):
    with hear() as impuls:
        # A VM that is not there: Impuls asks for it, gets 404, and says 500.
        record_event(
            "task.succeeded",
            by="x",
            project_id=project.pk,
            subject=uuid.uuid4(),
            operation="create_vm",
        )
        deliver()
        assert "404" in impuls.said()
        delivery = Delivery.objects.get(event__kind="task.succeeded")
        assert (delivery.state, delivery.response_status) == ("pending", 500)
