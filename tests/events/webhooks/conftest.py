"""A webhook, its receiver, and something to tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from accounts.actors import Actor
from accounts.models import Project
from events import outbox
from events.models import Delivery, Webhook, record_event
from events.webhooks import create_webhook
from tests.events.receiver import Receiver, receiving


@pytest.fixture(autouse=True)
def quick(settings: Any) -> None:
    """The receivers of these tests are on this machine, and nobody waits for long."""
    settings.WEBHOOKS = {
        **settings.WEBHOOKS,
        "allow_private": True,
        "timeout_s": 1.0,
        "lease_s": 2.0,
    }


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as there:
        yield there


@pytest.fixture
def hook(project: Project, operator: Actor, receiver: Receiver) -> tuple[Webhook, str]:
    """A webhook that is told of VMs, and its secret."""
    return create_webhook(url=receiver.url(), project=project, types=["vm.*"], by=operator)


@pytest.fixture
def tell(project: Project, hook: Any) -> Callable[..., Delivery]:
    """Something happens; gives its delivery, which is due."""

    def happen(**data: Any) -> Delivery:
        event = record_event("vm.missing", by="ana", project_id=project.pk, label="108 web", **data)
        outbox.publish()
        made: Delivery = Delivery.objects.get(event=event)
        return made

    return happen
