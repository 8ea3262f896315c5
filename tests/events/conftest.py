"""The cast of the events' tests: a web process, tokens of a project and of its neighbour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from accounts.actors import MEMBER, OPERATOR
from accounts.models import ApiToken, Project
from tests.events.serving import web_server


@pytest.fixture
def web(project: Project) -> Iterator[str]:
    with web_server() as url:
        yield url


@pytest.fixture
def neighbour(project: Project) -> Project:
    made: Project = Project.objects.create(name="neighbour")
    return made


@pytest.fixture
def tokens(project: Project, neighbour: Project) -> dict[str, str]:
    """The texts of an operator's token, a member's, and a member's of the neighbour."""
    return {
        "operator": ApiToken.objects.issue(name="op", project=project, role=OPERATOR)[1],
        "member": ApiToken.objects.issue(name="me", project=project, role=MEMBER)[1],
        "neighbour": ApiToken.objects.issue(name="they", project=neighbour, role=MEMBER)[1],
    }
