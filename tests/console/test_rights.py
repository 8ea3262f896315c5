"""A right that is taken away ends the console that it opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import OperationalError

from access.actions import revoke_token
from accounts.actors import MEMBER, SYSTEM, Actor
from accounts.models import ApiToken, Project
from accounts.people import OPERATORS, actor_of_user
from events.models import Event
from operations.refusals import NotFound
from tests.waiting import wait_until
from vms import console
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

ENDED = (4403, "You may no longer use this console.")


@pytest.fixture(autouse=True)
def looked_at_often(settings):
    settings.CONSOLE = {**settings.CONSOLE, "recheck_s": 0.1}


@pytest.fixture
def ana() -> User:
    user: User = User.objects.create_user("ana", is_staff=True)
    user.groups.add(Group.objects.get_or_create(name=OPERATORS)[0])
    return user


@pytest.fixture
def token(project: Project, vm: VirtualMachine) -> ApiToken:
    """A member's, and VM 100 is its project's."""
    VirtualMachine.objects.filter(pk=vm.pk).update(project=project)
    made, _ = ApiToken.objects.issue(name="ci", project=project, role=MEMBER)
    return made


def opened_by(actor: Actor, web: Any, vm: VirtualMachine) -> Any:
    vm.refresh_from_db()
    viewer = web.open(console.mint_link(vm=vm, by=actor).ticket)
    viewer.begin()
    return viewer


def revoke(token: ApiToken) -> None:
    revoke_token(token, by=SYSTEM)


def give_away(token: ApiToken) -> None:
    VirtualMachine.objects.filter(vmid=100).update(project=None)


@pytest.mark.parametrize("take_away", [revoke, give_away])
def test_a_token_that_loses_its_right_loses_its_console(
    take_away: Callable[[ApiToken], None], token, web, vm
):
    with opened_by(token.as_actor(), web, vm) as viewer:
        take_away(token)
        assert viewer.end() == ENDED
    wait_until(lambda: Event.objects.filter(kind="console.closed").exists(), "its end")
    assert Event.objects.get(kind="console.closed").data["why"] == "the right to it was taken away"


def test_a_person_who_is_no_operator_any_more_loses_the_console(ana, web, vm):
    with opened_by(actor_of_user(ana), web, vm) as viewer:
        ana.groups.clear()
        assert viewer.end() == ENDED


def test_a_person_who_is_gone_opens_nothing(ana, vm):
    ticket = console.mint_link(vm=vm, by=actor_of_user(ana)).ticket
    ana.delete()
    with pytest.raises(NotFound):
        console.redeem(ticket)


def test_what_cannot_be_asked_ends_nothing(token, web, vm, monkeypatch):
    asked = []

    def fail(visit: console.Visit) -> bool:
        asked.append(visit)
        raise OperationalError("the database is away")

    monkeypatch.setattr(console, "is_still_theirs", fail)
    with opened_by(token.as_actor(), web, vm) as viewer:
        wait_until(lambda: len(asked) > 2, "to be asked again")
        viewer.ask_for_frame()
        assert viewer.frame()
