"""What an error looks like: a page for people in the admin, problem+json for everybody else."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from accounts.request_id import current_request_id
from izvor_project.api import problems

Handler = Callable[..., HttpResponse]

SAID = {
    400: "The request cannot be understood.",
    403: "You may look at this, but not do that. Operators may: ask one to add you to the group "
    "`operators`. If you may, your page was too old: go back, load it again and try once more.",
    404: "There is no such page, or what it was about is gone.",
    500: "Izvor made a mistake. It is in the log, under the request's id.",
}


def for_people(status: int, otherwise: Handler) -> Handler:
    """`otherwise` answers all that is not of the admin."""

    def handler(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
        if not request.path.startswith("/admin/"):
            return otherwise(request) if exception is None else otherwise(request, exception)
        # Nothing that could fail again: no session, no database.
        context = {
            "title": HTTPStatus(status).phrase,
            "said": SAID[status],
            "request_id": current_request_id(),
        }
        return HttpResponse(render_to_string("admin/izvor/error.html", context), status=status)

    return handler


bad_request = for_people(400, problems.bad_request)
forbidden = for_people(403, problems.forbidden)
not_found = for_people(404, problems.not_found)
server_error = for_people(500, problems.server_error)
