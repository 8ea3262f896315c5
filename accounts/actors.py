"""Who is asking. Every query and every action starts from an Actor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accounts.prepared import Slot

if TYPE_CHECKING:
    from accounts.models import Project

VIEWER, MEMBER, OPERATOR = "viewer", "member", "operator"


@dataclass(frozen=True)
class Actor:
    """A caller: an API token, a person in the admin, or Izvor itself.

    `name` is what the audit shows, e.g. "token:ci" or "admin:ana".
    """

    name: str
    role: str
    project: Project | None = None
    token_id: int | None = None

    # DRF and Django ask this of whatever stands in `request.user`.
    is_authenticated = True
    is_anonymous = False
    is_active = True

    @property
    def pk(self) -> str:
        return self.name

    @property
    def is_operator(self) -> bool:
        return self.role == OPERATOR

    @property
    def may_write(self) -> bool:
        return self.role in {MEMBER, OPERATOR}


def anybody(*, is_operator: bool, has_project: bool) -> Actor:
    """Who stands, in what is prepared, for all who see alike; a slot is for their project. Every
    `visible_to` looks at these two and at nothing else."""
    project: Any = Slot("own_project") if has_project else None
    return Actor(name="", role=OPERATOR if is_operator else MEMBER, project=project)


def sight_of(actor: Actor) -> dict[str, bool]:
    """By what `anybody` stands for the actor."""
    return {"is_operator": actor.is_operator, "has_project": actor.project is not None}


def slots_of(actor: Actor) -> dict[str, int | None]:
    """What goes into the slot."""
    return {"own_project": actor.project.pk if actor.project else None}


SYSTEM = Actor(name="izvor", role=OPERATOR)
