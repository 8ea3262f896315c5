"""A setting that cannot be is refused with one sentence that names it, before anything starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GOOD = {
    "IZVOR_SECRET_KEY": "x",
    "DATABASE_URL": "postgres://izvor:secret@127.0.0.1/izvor",
    "REDIS_URL": "redis://127.0.0.1:6379/0",
    "DJANGO_SETTINGS_MODULE": "izvor_project.settings",
    "PATH": os.environ["PATH"],
}


def start(**changes: str | None) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    return subprocess.run(
        [sys.executable, "manage.py", "diffsettings"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


BAD = [
    ("IZVOR_PORT", "0"),
    ("IZVOR_PORT", "65536"),
    ("IZVOR_PORT", "eighty"),
    ("IZVOR_AUTH", "password"),
    ("IZVOR_SECRET_KEY", None),
    ("IZVOR_SECRET_KEY", " "),
    ("DATABASE_URL", None),
    ("DATABASE_URL", "sqlite:///izvor.db"),
    ("DATABASE_URL", "mysql://a:b@c/d"),
    ("DATABASE_URL", "nonsense"),
    ("DATABASE_URL", "postgres://a:b@host:port/name"),
    ("REDIS_URL", None),
    ("REDIS_URL", "http://127.0.0.1"),
    ("REDIS_URL", "127.0.0.1:6379"),
    ("REDIS_URL", "redis://127.0.0.1:port/0"),
    ("IZVOR_DB_POOL", "1"),
    ("PROXMOX_INSECURE", "maybe"),
    ("IZVOR_PROXMOX_KIND", "vmware"),
    ("IZVOR_LOG_FORMAT", "xml"),
    ("IZVOR_LOG_LEVEL", "loud"),
    ("IZVOR_TRUSTED_PROXIES", "*"),
    ("IZVOR_TRUSTED_PROXIES", "10.0.0.1,proxy"),
    ("IZVOR_TRUSTED_PROXIES", "10.0.0.1/8"),
    ("IZVOR_HTTPS", "true"),
    ("IZVOR_WEB_PROCESSES", "0"),
    ("IZVOR_WORKER_METRICS_PORT", "65536"),
]


@pytest.mark.parametrize(("name", "value"), BAD, ids=[f"{n}={v}" for n, v in BAD])
def test_a_bad_setting_is_one_sentence(name, value):
    ended = start(**{name: value})
    assert ended.returncode != 0
    assert "Traceback" not in ended.stderr
    lines = ended.stderr.strip().splitlines()
    assert len(lines) == 1, ended.stderr
    assert lines[0].startswith("izvor: ")
    assert name in lines[0]
    assert lines[0].endswith(".")
    assert "secret@" not in lines[0], "an address may hold a password"


def test_a_good_environment_starts():
    ended = start()
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"PROXMOX_URL": "http://pve:8006", "PROXMOX_PASSWORD": "x"}, "PROXMOX_URL"),
        ({"PROXMOX_URL": "https://pve:8006"}, "PROXMOX_PASSWORD"),
        ({"PROXMOX_URL": "https://pve:port", "PROXMOX_PASSWORD": "x"}, "PROXMOX_URL"),
        ({"PROXMOX_URL": "https://a:b@pve:8006", "PROXMOX_PASSWORD": "x"}, "PROXMOX_URL"),
        ({"PROXMOX_URL": ",", "PROXMOX_PASSWORD": "x"}, "PROXMOX_URL"),
        (
            {
                "PROXMOX_URL": "https://pve:8006",
                "PROXMOX_PASSWORD": "x",
                "PROXMOX_CA_FILE": "/nowhere/ca.pem",
            },
            "PROXMOX_CA_FILE",
        ),
    ],
    ids=str,
)
def test_a_bad_proxmox_address_is_one_sentence(changes, names, settings):
    from django.core.exceptions import ImproperlyConfigured

    from clusters.environment import values_from

    env = {
        "url": changes.get("PROXMOX_URL", ""),
        "user": "root@pam",
        "password": changes.get("PROXMOX_PASSWORD", ""),
        "token_id": "",
        "token_secret": "",
        "node": "",
        "is_insecure": False,
        "ca_file": changes.get("PROXMOX_CA_FILE", ""),
        "fingerprint": "",
        "kind": "proxmox",
    }
    with pytest.raises(ImproperlyConfigured, match=names) as refused:
        values_from(env)
    assert str(refused.value).endswith(".")
    assert "a:b" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("pve", "https://pve:8006"),
        ("https://pve.example.org", "https://pve.example.org:8006"),
        ("https://192.0.2.1:443/", "https://192.0.2.1:443"),
        ("https://[2001:db8::1]:8006", "https://[2001:db8::1]:8006"),
        ("https://PVE:8006/api2/json", "https://pve:8006"),
    ],
)
def test_an_address_is_completed(url, endpoint):
    from clusters.environment import endpoint as completed

    assert completed(url) == endpoint
