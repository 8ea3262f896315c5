"""How much one token may ask in a minute: 429 beyond that, with Retry-After."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from accounts import rates

if TYPE_CHECKING:
    # At run time rest_framework.views reads its settings, which name this module.
    from rest_framework.views import APIView


class Throttle(BaseThrottle):
    """All requests of a token, and what the view names in `rates` by action (`settings.RATES`).

    Who has no token is not counted: nobody gets here without one but with IZVOR_AUTH=none.
    """

    seconds: float | None = None

    def allow_request(self, request: Request, view: APIView) -> bool:
        token = getattr(request.user, "token_id", None)
        if token is None:
            return True
        of_action: str | None = getattr(view, "rates", {}).get(getattr(view, "action", ""))
        for what in ("requests", of_action):
            if what is not None:
                self.seconds = rates.count(what, f"token:{token}")
                if self.seconds is not None:
                    return False
        return True

    def wait(self) -> float | None:
        return self.seconds
