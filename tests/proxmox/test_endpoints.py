"""Several endpoints of one cluster: which is asked, and which is left alone for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from proxmox import TimedOut, Unreachable
from proxmox.endpoints import Breaker, Endpoint
from proxmox.names import Found, resolve
from tests.proxmox.server import VERSION, Say, Server, answers


def elapsed(call: Callable[[], object]) -> float:
    started_at = time.monotonic()
    call()
    return time.monotonic() - started_at


def test_the_endpoint_that_answered_is_asked_first(serve, connect):
    servers = [serve(answers(Say("", 595, "no"))), serve(answers(VERSION))]
    client = connect(*servers)
    client.version()
    client.version()
    assert [len(server.seen) for server in servers] == [1, 2]


def test_a_dead_endpoint_is_left_alone_for_a_while(serve, connect, authority):
    dead = Server(authority.server_context(), answers(VERSION))
    healthy = serve(answers(VERSION))
    client = connect(dead, healthy)
    client.version()
    dead.close()
    client.version()
    breaker = client._transport._routes[0].breaker
    assert not breaker.is_closed
    assert 0 < breaker.retry_in_s <= 2


def test_a_port_that_stays_silent_costs_the_connect_timeout_once(connect, silent_port):
    client = connect(silent_port, connect_timeout_s=0.8)

    def first() -> None:
        with pytest.raises(Unreachable):
            client.version(timeout_s=5)

    assert elapsed(first) < 3

    def again() -> None:
        with pytest.raises(Unreachable, match="no connection in time, tried again in"):
            client.version(timeout_s=5)

    assert elapsed(again) < 0.7


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_dead_endpoint_comes_back(serve, connect):
    client = connect(serve(answers(VERSION)))
    clock = Clock()
    route = client._transport._routes[0]
    route.breaker = Breaker(clock=clock)
    route.breaker.failed()
    with pytest.raises(Unreachable):
        client.version()
    clock.now += 2
    assert client.version().release == "8.4"
    assert route.breaker.is_closed


def test_one_call_at_a_time_tries_a_dead_endpoint():
    clock = Clock()
    breaker = Breaker(first_s=2, clock=clock)
    breaker.failed()
    assert not breaker.admits()
    clock.now += 2
    assert breaker.admits()
    assert not breaker.admits()
    breaker.failed()
    assert breaker.retry_in_s == 4
    clock.now += 4
    assert breaker.admits()
    breaker.worked()
    assert breaker.admits()
    assert breaker.admits()


def test_a_try_that_never_returns_does_not_keep_an_endpoint_dead():
    clock = Clock()
    breaker = Breaker(first_s=2, clock=clock)
    breaker.failed()
    clock.now += 2
    assert breaker.admits()
    clock.now += 2
    assert breaker.admits()


def test_many_failures_at_once_count_as_one():
    breaker = Breaker(first_s=2, clock=Clock())
    for _ in range(10):
        breaker.failed()
    assert breaker.retry_in_s == 2


def test_a_breaker_opens_for_longer_each_time_up_to_a_limit():
    clock = Clock()
    breaker = Breaker(first_s=2, longest_s=15, clock=clock)
    opened_for = []
    for _ in range(5):
        breaker.failed()
        opened_for.append(breaker.retry_in_s)
        clock.now += breaker.retry_in_s
        assert breaker.admits()
    assert opened_for == [2, 4, 8, 15, 15]


def test_one_lost_answer_does_not_condemn_an_endpoint():
    breaker = Breaker()
    breaker.lost_answer()
    breaker.lost_answer()
    assert breaker.is_closed
    breaker.worked()
    breaker.lost_answer()
    breaker.lost_answer()
    assert breaker.is_closed
    breaker.lost_answer()
    assert not breaker.is_closed


def test_a_short_call_does_not_condemn_an_endpoint(connect, silent_port):
    client = connect(silent_port, connect_timeout_s=5)
    with pytest.raises(TimedOut):
        client.vmid_is_free(100, timeout_s=0.2)
    assert client._transport._routes[0].breaker.is_closed


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("https://pve1:8006", Endpoint("pve1", 8006)),
        ("https://pve1.example.org/", Endpoint("pve1.example.org", 8006)),
        ("pve1", Endpoint("pve1", 8006)),
        ("10.0.0.1:443", Endpoint("10.0.0.1", 443)),
        ("https://[fd00::1]:8006", Endpoint("fd00::1", 8006)),
        ("[fd00::1]", Endpoint("fd00::1", 8006)),
    ],
)
def test_an_endpoint_is_read_from(text, endpoint):
    assert Endpoint.parse(text) == endpoint
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://pve1:8006",
        "https://root:hunter2@pve1",
        "https://pve1/api2/json",
        "https://pve1?x=hunter2",
        "https://pve1:99999",
        "https://pve 1",
        "https://[nonsense",
        "https://:8006",
    ],
)
def test_an_endpoint_is_not(text):
    with pytest.raises(ValueError, match="Proxmox") as raised:
        Endpoint.parse(text)
    assert "hunter2" not in str(raised.value)


def test_an_unknown_name_is_unreachable(connect):
    with pytest.raises(Unreachable, match="is not known"):
        connect("https://no-such-host.invalid:8006").version(timeout_s=5)


def test_a_name_is_resolved(serve, connect):
    server = serve(answers(VERSION))
    assert connect(f"https://localhost:{server.port}").version().release == "8.4"


def test_name_servers_that_do_not_answer_are_given_up():
    answered = threading.Event()

    def look_up(host: str, port: int) -> list[Found]:
        answered.wait(10)
        return []

    with pytest.raises(TimeoutError, match="pve1 was not resolved in time"):
        resolve("pve1", 8006, 0.1, look_up=look_up)
    answered.set()


def test_a_cluster_has_an_endpoint(connect):
    with pytest.raises(ValueError, match="at least one endpoint"):
        connect()
