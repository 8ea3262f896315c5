"""A project is deleted while something is made in it: the later of the two is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction

from access import actions
from accounts.actors import Actor
from accounts.models import ApiToken, Project
from events.models import Webhook
from tests.api.shapes import Caller, problem_of
from tests.waiting import wait_until
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

A_VM = {"name": "late", "template": "ubuntu-22.04", "size": "nano"}
A_WEBHOOK = {"url": "https://hooks.example.org/late", "types": []}


def somebody_waits_for_us() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM pg_locks"
            " WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize(
    ("path", "body"),
    [("vms", A_VM), ("tokens", {"name": "late", "role": "viewer"}), ("webhooks", A_WEBHOOK)],
)
def test_what_is_made_in_a_project_that_is_deleted_is_refused(
    path: str,
    body: Any,
    cluster,
    callers: dict[str, Caller],
    neighbour: Project,
    operator: Actor,
):
    def make() -> Any:
        try:
            return callers["stranger"].post(f"/api/v1/{path}", body)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as threads:
        with transaction.atomic():
            actions.delete_project(neighbour, by=operator)
            answer = threads.submit(make)
            wait_until(lambda: answer.done() or somebody_waits_for_us(), "the request", 10)
        problem_of(answer.result(), 409, "project_gone")
    assert not VirtualMachine.objects.filter(name="late").exists()
    assert not ApiToken.objects.filter(name="late").exists()
    assert not Webhook.objects.filter(url=A_WEBHOOK["url"]).exists()
