"""The console's page: what it lets the browser do, and what it says where noVNC is missing."""

from __future__ import annotations

import re
from pathlib import Path

from django.conf import settings as django_settings
from django.contrib.staticfiles import finders
from django.test import Client

from izvor_project.console import page
from vms.console import PAGE

FILES = ("console/console.js", "console/console.css")


def test_nothing_inline_and_nothing_from_elsewhere(client: Client):
    answer = client.get(PAGE, headers={"Host": "localhost:8082"})
    text = answer.content.decode()
    assert answer.status_code == 200
    policy = dict(part.split(" ", 1) for part in answer["Content-Security-Policy"].split("; "))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self' ws://localhost:8082 wss://localhost:8082",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer["Referrer-Policy"] == "no-referrer"
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text)
    assert re.findall(r'(?:src|href)="(?!/static/|data:,")', text) == []
    assert not answer.cookies
    for name in FILES:
        assert finders.find(name) is not None


def test_it_says_what_is_missing(client: Client, settings, tmp_path: Path):
    settings.STATIC_ROOT = tmp_path
    text = client.get(PAGE).content.decode()
    assert "The package noVNC is missing on Izvor's server." in text
    assert "make build" in text
    assert "<script" not in text


def test_where_files_are_collected_they_are_looked_for_there(tmp_path: Path, settings):
    settings.STATIC_ROOT = tmp_path
    assert not page.is_novnc_there()
    (tmp_path / "novnc" / "core").mkdir(parents=True)
    (tmp_path / "novnc" / "core" / "rfb.js").touch()
    assert page.is_novnc_there()


def test_only_what_the_page_needs_of_novnc_is_served():
    served = {Path(where).parts[-1] for _, where in django_settings.STATICFILES_DIRS}
    assert served <= {"core", "vendor"}
    assert django_settings.NOVNC == django_settings.BASE_DIR / "node_modules/@novnc/novnc"


def test_it_is_looked_at_and_nothing_else(client: Client):
    assert client.post(PAGE).status_code in {403, 405}
    assert client.head(PAGE).status_code == 200
