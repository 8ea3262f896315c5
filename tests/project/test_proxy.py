"""Behind a reverse proxy: whose word is taken, what TLS turns on; the headers of every answer."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connection
from rest_framework.test import APIClient

from accounts.actors import OPERATOR
from accounts.models import ApiToken

ROOT = Path(__file__).resolve().parents[2]
# Enough for Django's own check: fifty characters, and five of them different.
KEY = "a-secret-key-that-is-long-enough-for-djangos-own-check-0123456789"

Ask = Callable[..., http.client.HTTPResponse]


@pytest.fixture
def serve() -> Iterator[Callable[..., Ask]]:
    """`manage.py serve` as it is, on the test's database; asked with headers of one's own."""
    running: list[subprocess.Popen[bytes]] = []

    def start(**env: str) -> Ask:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        database = urlsplit(os.environ["DATABASE_URL"])
        name = connection.settings_dict["NAME"]
        ours = {
            "DATABASE_URL": database._replace(path=f"/{name}").geturl(),
            "DJANGO_SETTINGS_MODULE": "izvor_project.settings",
            "IZVOR_SECRET_KEY": KEY,
            "IZVOR_ALLOWED_HOSTS": "izvor.example.com",
            "IZVOR_PORT": str(port),
        }
        command = [sys.executable, "manage.py", "serve"]
        running.append(subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ours, **env}))

        def ask(path: str, **headers: str) -> http.client.HTTPResponse:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            client.request("GET", path, headers={"Host": "izvor.example.com", **named})
            answer = client.getresponse()
            answer.text = answer.read().decode()  # type: ignore[attr-defined]
            client.close()
            return answer

        ends = time.monotonic() + 60
        while True:
            try:
                ask("/health/live")
            except OSError:
                assert time.monotonic() < ends, "the web server did not come"
                time.sleep(0.1)
            else:
                return ask

    yield start
    for each in running:
        each.terminate()
        each.wait(20)


FROM_PROXY = {"X_Forwarded_Proto": "https", "X_Forwarded_For": "192.0.2.7"}


@pytest.mark.django_db(transaction=True)
def test_nobodys_forwarded_headers_are_believed_unless_named(project, serve):
    _, token = ApiToken.objects.issue(name="t", project=project, role=OPERATOR)
    ask = serve()
    bearer = {"Authorization": f"Bearer {token}"}
    answer = ask("/api/v1/vms?limit=1", **bearer, **FROM_PROXY)
    assert answer.status == 200
    assert answer.getheader("Strict-Transport-Security") is None
    login = ask("/admin/login/", **FROM_PROXY)
    assert "csrftoken" in (login.getheader("Set-Cookie") or "")
    assert "Secure" not in (login.getheader("Set-Cookie") or "")
    # Nor are they of use: who comes with them is no longer taken for this machine itself.
    assert ask("/metrics", Host="127.0.0.1").status == 200
    assert ask("/metrics", Host="127.0.0.1", **FROM_PROXY).status == 401


@pytest.mark.django_db(transaction=True)
def test_with_https_all_goes_through_the_named_proxy(project, serve):
    ask = serve(IZVOR_HTTPS="true", IZVOR_TRUSTED_PROXIES="127.0.0.1")
    plain = ask("/admin/login/")
    assert plain.status == 301
    assert plain.getheader("Location") == "https://izvor.example.com/admin/login/"
    secure = ask("/admin/login/", **FROM_PROXY)
    assert secure.status == 200
    assert secure.getheader("Strict-Transport-Security") == "max-age=31536000"
    assert "Secure" in (secure.getheader("Set-Cookie") or "")
    # The container's own check speaks plain http.
    assert ask("/health/live").status == 200
    assert ask("/metrics").status == 401


@pytest.mark.django_db(transaction=True)
def test_a_proxy_that_is_not_named_is_not_believed(project, serve):
    ask = serve(IZVOR_HTTPS="true", IZVOR_TRUSTED_PROXIES="192.0.2.0/24")
    assert ask("/admin/login/", **FROM_PROXY).status == 301


def test_djangos_own_check_finds_nothing_in_production():
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "izvor_project.settings",
        "IZVOR_SECRET_KEY": KEY,
        "IZVOR_HTTPS": "true",
        "IZVOR_TRUSTED_PROXIES": "10.0.0.1",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# --- the headers of every answer ---


@pytest.mark.parametrize(
    "path", ["/api/v1/vms", "/api/v1/nothing", "/api/docs", "/console", "/admin/login/", "/health"]
)
def test_no_answer_can_be_framed_sniffed_or_tell_where_from(path, project):
    answer = APIClient().get(path)
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Referrer-Policy"] in {"same-origin", "no-referrer"}


@pytest.mark.parametrize("path", ["/api/v1/vms", "/api/v1/nothing", "/health/live", "/metrics"])
def test_what_is_no_page_may_load_nothing(path, project):
    policy = APIClient().get(path, REMOTE_ADDR="192.0.2.7")["Content-Security-Policy"]
    assert policy == "default-src 'none'; frame-ancestors 'none'"


def test_the_docs_page_loads_only_what_is_ours(project):
    policy = APIClient().get("/api/docs")["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    script = APIClient().get("/api/docs?script=")
    assert script["Content-Type"].startswith("application/javascript")


@pytest.mark.parametrize("path", ["/api/v1/vms", "/api/docs", "/console", "/metrics"])
def test_a_host_that_is_not_ours_is_refused(path, project):
    assert APIClient().get(path, HTTP_HOST="evil.example.com").status_code == 400


def test_a_body_that_is_too_large_is_refused_before_it_is_read(api):
    answer = api.generic(
        "POST", "/api/v1/vms", b"{}", content_type="application/json", CONTENT_LENGTH="2000000"
    )
    assert answer.status_code == 413
    assert answer.json()["code"] == "too_large"
