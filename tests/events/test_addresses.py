"""Where webhooks may go: public addresses, checked when they are dialed."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from events import addresses, deliveries, outbox
from events.addresses import Unusable, is_allowed, parse_url, resolve
from events.models import Delivery
from events.webhooks import create_webhook
from tests.events.receiver import receiving

FORBIDDEN = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "192.0.2.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1",
    "2002:7f00:1::",
    "2001:0:1:2:3:4:80ff:fffe",
]
PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "64:ff9b::101:101", "::ffff:1.1.1.1"]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_what_is_not_public_is_forbidden(text):
    assert not is_allowed(ipaddress.ip_address(text))
    host = f"[{text}]" if ":" in text else text
    with pytest.raises(Unusable, match="not a public address"):
        parse_url(f"https://{host}/hook")


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_allowed(text):
    assert is_allowed(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://example.org/",
        "example.org/hook",
        "https://",
        "https:///hook",
        "https://user:password@example.org/",
        "https://token@example.org/",
        "https://example.org/#part",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://exa mple.org/",
        "https://example.org/a b",
        "https://example.org/\r\nX: y",
        "https://ex\u00e4mple.org/",
        "https://a..b/",
        "https://-a.org/",
        "https://" + "a" * 64 + ".org/",
        "https://" + "a." * 130 + "org/",
        "https://[::1",
        "file:///etc/passwd",
        "javascript:alert(1)",
    ],
)
def test_what_is_no_usable_url_is_refused(url):
    with pytest.raises(Unusable):
        parse_url(url)


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f.1", "127.1", "localhost."])
def test_a_name_for_this_machine_is_refused_when_it_is_dialed(host):
    """Whatever the resolver makes of it is what is checked."""
    target = parse_url(f"http://{host}/")
    with pytest.raises((Unusable, OSError)) as refused:
        resolve(target, timeout_s=5)
    if isinstance(refused.value, Unusable):
        assert "not a public address" in str(refused.value)


def answering(monkeypatch: Any, *texts: str) -> list[str]:
    """The resolver says these addresses, one list a question; gives the questions."""
    asked: list[str] = []
    lists = [text.split(",") for text in texts]
    real = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **more: Any) -> list[Any]:
        if addresses.as_number(host) is not None:
            return real(host, port, *args, **more)
        asked.append(host)
        found = lists[min(len(asked), len(lists)) - 1]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, port)) for text in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_of_several_addresses_only_the_allowed_are_dialed(monkeypatch):
    answering(monkeypatch, "127.0.0.1,1.1.1.1,10.0.0.1")
    found = resolve(parse_url("https://mixed.example/"), timeout_s=5)
    assert [str(address) for address in found] == ["1.1.1.1"]


@pytest.mark.django_db(transaction=True)
def test_a_name_that_changes_its_address_gains_nothing(monkeypatch, settings, project, operator):
    """Allowed when it is checked, another when it is dialed: it is not asked a second time."""
    settings.WEBHOOKS = {
        **settings.WEBHOOKS,
        "allowed": [ipaddress.ip_network("127.0.0.2/32")],
        "timeout_s": 1.0,
    }
    with receiving() as receiver:
        asked = answering(monkeypatch, "127.0.0.2", "127.0.0.1")
        url = receiver.url("rebinding.example")
        create_webhook(url=url, project=project, types=["webhook.created"], by=operator)
        outbox.publish()
        deliveries.work()
        assert asked.count("rebinding.example") == 1
        # It listens on 127.0.0.1, and was dialed at 127.0.0.2, where nobody is.
        assert receiver.heard == []
    assert Delivery.objects.get().response_status is None


@pytest.mark.django_db(transaction=True)
def test_a_forbidden_target_is_said_and_never_dialed(settings, project, operator):
    with receiving() as receiver:
        url = receiver.url("localhost")
        create_webhook(url=url, project=project, types=[], by=operator)
        outbox.publish()
        deliveries.work()
        assert receiver.heard == []
    assert "not a public address" in Delivery.objects.get().error
    assert "IZVOR_WEBHOOK_ALLOW" in Delivery.objects.get().error


def test_networks_are_allowed_one_by_one_or_all(settings):
    ten, eleven = ipaddress.ip_address("10.0.0.1"), ipaddress.ip_address("192.168.0.1")
    network = ipaddress.ip_network("10.0.0.0/8")
    settings.WEBHOOKS = {**settings.WEBHOOKS, "allowed": [network]}
    assert is_allowed(ten)
    assert is_allowed(ipaddress.ip_address("::ffff:10.0.0.1"))
    assert not is_allowed(eleven)
    settings.WEBHOOKS = {**settings.WEBHOOKS, "allow_private": True}
    assert is_allowed(eleven)
    assert not is_allowed(ipaddress.ip_address("224.0.0.1"))


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch):
    import threading

    may_answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: may_answer.wait(10))
    with pytest.raises(TimeoutError):
        addresses.resolve(parse_url("https://slow.example/"), timeout_s=0.2)
    may_answer.set()
