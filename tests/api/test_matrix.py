"""Every route, asked by everybody, about what is theirs, another project's and nobody's."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.urls import resolve
from django.utils import timezone

from accounts.actors import OPERATOR
from accounts.models import ApiToken
from izvor_project.api import routes
from tests.api.shapes import problem_of
from tests.api.table import API, OWNERS, ROLES, ROWS

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.method} {row.path}" for row in ROWS])
def test_each_may_what_the_contract_says(row, things, callers):
    wrong = []
    for role in ROLES:
        for whose in OWNERS if "{" in row.path else OWNERS[:1]:
            with transaction.atomic():
                path = API + row.path.format(**things[whose])
                answer = callers[role].ask(row.method, path, row.body)
                transaction.set_rollback(True)
            wanted = row.expected(role, whose)
            if answer.status_code != wanted:
                wrong.append((role, whose, wanted, answer.status_code, answer.content[:300]))
            elif wanted >= 400:
                problem_of(answer, wanted)
    assert not wrong


def test_the_table_names_every_route():
    """Each path of the API, with each of its methods, stands in ROWS: a new one cannot escape."""
    some = dict.fromkeys(("vm", "task", "project", "token", "webhook", "delivery"), "x")
    asked = {(resolve(API + row.path.format(**some)).url_name, row.method.lower()) for row in ROWS}
    served = {
        (getattr(pattern, "name", None), method)
        for pattern in routes.urlpatterns
        for method in pattern.callback.actions  # type: ignore[union-attr]
        if method != "head"
    }
    assert asked == served
    assert len(ROWS) == len({(row.method, row.path) for row in ROWS})


def test_what_is_not_there_is_not_there_for_operators_either(callers, project):
    nobody = "11111111-2222-4333-8444-555555555555"
    for path in (
        f"/vms/{nobody}",
        f"/tasks/{nobody}",
        f"/projects/{nobody}",
        "/projects/none",
        f"/quotas/{nobody}",
        f"/tokens/{nobody}",
        "/tokens/not-a-uuid",
        f"/webhooks/{nobody}",
        f"/webhooks/{nobody}/deliveries",
    ):
        problem_of(callers[OPERATOR].get(API + path), 404)


def test_an_expired_operator_is_nobody(callers, project):
    ApiToken.objects.filter(role=OPERATOR).update(expires_at=timezone.now())
    problem_of(callers[OPERATOR].get(f"{API}/vms"), 401)
