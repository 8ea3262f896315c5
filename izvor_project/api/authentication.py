"""Who is asking: a bearer token, or without one everybody where IZVOR_AUTH=none."""

from __future__ import annotations

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from accounts.actors import OPERATOR, Actor
from accounts.models import ApiToken, Project


class Authentication(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Actor, None] | None:
        header = get_authorization_header(request).decode("latin-1").split()
        # Who brings a token is who it says, even where none is asked for.
        if not header and settings.IZVOR_AUTH == "none":
            project = Project.objects.filter(name="default").first()
            return Actor(name="local", role=OPERATOR, project=project), None
        if not header:
            return None
        if len(header) != 2 or header[0].lower() != "bearer":
            raise AuthenticationFailed("Give the header `Authorization: Bearer izv_…`.")
        token = ApiToken.objects.find(header[1])
        if token is None:
            raise AuthenticationFailed("This token is unknown, expired or revoked.")
        token.touch()
        return token.as_actor(), None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="izvor"'


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How the OpenAPI schema describes it."""

    target_class = Authentication
    name = "token"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "izv_…"}
