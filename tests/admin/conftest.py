"""The people of the admin: ana may do all, oto is an operator, vera looks, eve has no business."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.test import Client

from accounts.models import Project
from accounts.people import OPERATORS, VIEWERS
from tests.console.conftest import vm, web_process  # noqa: F401 - fixtures of the browser's tests

PASSWORD = "a long password"


def log_in(name: str, **client: Any) -> Client:
    browser = Client(**client)
    assert browser.login(username=name, password=PASSWORD)
    return browser


@pytest.fixture
def browser(project: Project) -> Client:
    """Ana's, a superuser."""
    User.objects.create_superuser("ana", password=PASSWORD)
    return log_in("ana")


@pytest.fixture
def groups(project: Project) -> None:
    call_command("sync_roles")


@pytest.fixture
def operators_browser(groups: None) -> Client:
    user = User.objects.create_user("oto", password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name=OPERATORS))
    return log_in("oto")


@pytest.fixture
def viewers_browser(groups: None) -> Client:
    user = User.objects.create_user("vera", password=PASSWORD, is_staff=True)
    user.groups.add(Group.objects.get(name=VIEWERS))
    return log_in("vera")
