"""The API of API tokens."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from access import actions
from access.finding import find_project, find_token
from access.serializers import NewTokenSerializer, TokenChangesSerializer, token_body
from accounts.actors import Actor
from accounts.models import ApiToken, Project
from accounts.rest import (
    PAGING,
    actor_of,
    listing,
    page_of,
    parse,
    refuse_unknown_params,
)
from operations.refusals import InvalidInput, NotAllowed, NotFound
from operations.rest import flag_of, idempotent, shows


class TokenViewSet(ViewSet):
    """API tokens. What one may do is settled when it is made."""

    lookup_value_regex = "[^/]+"
    rates = {"create": "tokens"}

    def list(self, request: Request) -> Response:
        refuse_unknown_params(request, {"project", "revoked"} | PAGING)
        tokens = ApiToken.objects.visible_to(actor_of(request)).select_related("project")
        if request.query_params.get("project"):
            tokens = tokens.filter(project__name=request.query_params["project"])
        if request.query_params.get("revoked"):
            tokens = tokens.filter(revoked_at__isnull=not flag_of(request, "revoked"))
        rows, page = page_of(request, tokens, order="-pk")
        return listing("tokens", [token_body(token) for token in rows], page)

    def retrieve(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        return Response(token_body(find_token(request, pk)))

    @idempotent
    def create(self, request: Request) -> Response:
        """`secret` is shown in this answer only."""
        refuse_unknown_params(request, set())
        actor, checked = actor_of(request), parse(NewTokenSerializer, request)
        token, text = actions.create_token(
            name=checked["name"],
            project=project_for(actor, checked.get("project")),
            role=checked["role"],
            expires_at=checked["expires_at"],
            by=actor,
        )
        headers = {"Location": f"/api/v1/tokens/{token.uuid}"}
        return Response({**token_body(token), "secret": text}, status=201, headers=headers)

    @idempotent
    def partial_update(self, request: Request, pk: str) -> Response:
        refuse_unknown_params(request, set())
        token = find_token(request, pk)
        actions.change_token(
            token, changes=parse(TokenChangesSerializer, request), by=actor_of(request)
        )
        return Response(token_body(token))

    @idempotent
    def destroy(self, request: Request, pk: str) -> Response:
        """Revokes it; it stays in the list."""
        refuse_unknown_params(request, set())
        actions.revoke_token(find_token(request, pk), by=actor_of(request))
        return Response(status=204)


def project_for(actor: Actor, wanted: str | None) -> Project:
    """The project that a body names, or the caller's own. Raises Refusal."""
    if wanted is not None:
        try:
            return find_project(actor, wanted)
        except NotFound as error:
            raise InvalidInput("project", error.detail, code=error.code) from None
    if actor.project is None:
        raise NotAllowed("not_allowed", "Name a project.")
    return actor.project


@shows("token")
def shown_token(request: Request, uuid: str) -> dict[str, Any]:
    return token_body(find_token(request, uuid))
