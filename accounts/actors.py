"""Who is asking. Every query and every action starts from an Actor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

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


SYSTEM = Actor(name="izvor", role=OPERATOR)
