"""The admin's login: each try is in the audit, and who fails too often in a minute has to wait."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from unfold.forms import AuthenticationForm

from accounts import rates
from events.models import record_event


class LoginForm(AuthenticationForm):  # type: ignore[misc]
    """Counts failures by name and address, before a password is looked at."""

    def clean(self) -> dict[str, Any]:
        name = str(self.cleaned_data.get("username", ""))
        if not name or not self.cleaned_data.get("password"):
            return dict(super().clean())
        address = str(self.request.META.get("REMOTE_ADDR", ""))
        who = f"{address} {name.lower()}"
        seconds = rates.look("logins", who)
        if seconds is not None:
            self.request.must_wait_s = int(seconds) + 1
            raise ValidationError(
                f"Too many failed logins. Wait {self.request.must_wait_s} s.", code="throttled"
            )
        try:
            cleaned: dict[str, Any] = super().clean()
        except ValidationError:
            rates.count("logins", who)
            record_login("login.failed", known_name(name), address)
            raise
        record_login("login.succeeded", self.get_user().get_username(), address)
        return cleaned


def record_login(kind: str, name: str, address: str) -> None:
    record_event(kind, by=f"admin:{name or '?'}", label=name, address=address)


def known_name(name: str) -> str:
    """Only if somebody is called that: people type their passwords into the wrong field."""
    return name if User.objects.filter(username=name).exists() else ""


def login(request: HttpRequest) -> HttpResponse:
    """The admin's own page, with 429 for those who have to wait."""
    answer = admin.site.login(request)
    seconds = getattr(request, "must_wait_s", None)
    if seconds is not None:
        answer.status_code = 429
        answer["Retry-After"] = str(seconds)
    return answer
