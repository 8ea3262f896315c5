"""Izvor's addresses, and the emptiest answer that a caller with a token can get."""

from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from izvor_project import urls


class Nothing(APIView):
    """Everything that happens around a view, and no view."""

    def get(self, request: Request) -> Response:
        return Response({})


urlpatterns = [path("api/v1/nothing", Nothing.as_view()), *urls.urlpatterns]
handler400, handler403 = urls.handler400, urls.handler403
handler404, handler500 = urls.handler404, urls.handler500
