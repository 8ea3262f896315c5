"""One address, which reads the database."""

from django.contrib.contenttypes.models import ContentType
from django.urls import path
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class Count(APIView):
    authentication_classes = ()
    permission_classes = ()

    def get(self, request: Request) -> Response:
        return Response({"kinds": ContentType.objects.count()})


urlpatterns = [path("api/v1/count", Count.as_view())]
