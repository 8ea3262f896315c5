"""Lost answers, dead endpoints, slow ones, and certificates that are not the ones expected."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from proxmox import (
    BadAnswer,
    NotFound,
    OutcomeUnknown,
    Rejected,
    TimedOut,
    Tls,
    Unreachable,
    Untrusted,
)
from proxmox.endpoints import Breaker, Endpoint
from proxmox.names import Found, resolve
from tests.proxmox.conftest import make_authority
from tests.proxmox.server import (
    Answer,
    Behaviour,
    Drip,
    Drop,
    Hang,
    Say,
    Seen,
    Server,
    data,
    serving,
)

VERSION = data({"version": "8.4.21", "release": "8.4", "repoid": "2606ac850d46da29"})
UPID = "UPID:pve1:00000174:0005354B:6B03FB8B:qmstart:9000:izvor@pve!api:"


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address at which nobody listens: bound, so that nobody else takes it meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield f"https://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def silent_port() -> Iterator[str]:
    """An address that takes connections and never says a word, not even TLS's."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"https://127.0.0.1:{sock.getsockname()[1]}"


def answers(*behaviours: Behaviour) -> Answer:
    """One behaviour after the other; the last one from then on."""
    left = list(behaviours)

    def answer(seen: Seen) -> Behaviour:
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


def elapsed(call: Callable[[], object]) -> float:
    started_at = time.monotonic()
    call()
    return time.monotonic() - started_at


# -- lost answers ----------------------------------------------------------------------------------


def test_a_question_is_asked_again_when_its_answer_is_lost(serve, connect):
    server = serve(answers(Drop(), VERSION))
    assert connect(server).version().release == "8.4"
    assert len(server.seen) == 2


def test_a_question_is_not_asked_for_ever(serve, connect):
    server = serve(answers(Drop()))
    with pytest.raises(Unreachable, match="closed connection without response"):
        connect(server).version()
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    "first", [b"", b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"data":', b"HTTP/1.1 2"]
)
def test_a_change_whose_answer_is_lost_is_never_sent_twice(serve, connect, first):
    server = serve(answers(Drop(first), data(UPID)))
    with pytest.raises(OutcomeUnknown):
        connect(server).start("pve1", 9000)
    assert [seen.path for seen in server.seen] == ["/api2/json/nodes/pve1/qemu/9000/status/start"]


def test_a_change_whose_answer_is_lost_does_not_go_to_another_endpoint(serve, connect):
    first, second = serve(answers(Drop())), serve(answers(data(UPID)))
    with pytest.raises(OutcomeUnknown):
        connect(first, second).start("pve1", 9000)
    assert second.seen == []


def test_a_change_goes_to_another_endpoint_where_nothing_was_sent(serve, connect, closed_port):
    server = serve(answers(data(UPID)))
    assert str(connect(closed_port, server).start("pve1", 9000)) == UPID


def test_a_change_is_unreachable_where_no_endpoint_takes_it(connect, closed_port):
    with pytest.raises(Unreachable, match="connection refused"):
        connect(closed_port).start("pve1", 9000)


def test_a_kept_connection_that_the_server_closed_is_not_used(serve, connect):
    server = serve(answers(data(UPID)))
    client = connect(server)
    client.start("pve1", 9000)
    server.drop_connections()
    client.start("pve1", 9000)
    assert len(server.seen) == 2
    assert server.handshakes == 2


def test_connections_are_kept(serve, connect):
    server = serve(answers(VERSION))
    client = connect(server)
    for _ in range(5):
        client.version()
    assert server.handshakes == 1


def test_an_answer_that_is_no_json_is_no_answer(serve, connect):
    client = connect(serve(answers(Say("<html>welcome</html>"))))
    with pytest.raises(BadAnswer):
        client.version()
    with pytest.raises(OutcomeUnknown):
        client.start("pve1", 9000)


def test_an_answer_of_another_shape_says_of_what(serve, connect):
    client = connect(serve(answers(data([1, 2, 3]))))
    with pytest.raises(BadAnswer, match=r"nodes/\{node\}/qemu/\{vmid\}/config"):
        client.guest_config("pve1", 100)


def test_redirects_are_not_followed(serve, connect):
    elsewhere = Say("", 301, "Moved Permanently", {"Location": "https://127.0.0.1:1/"})
    with pytest.raises(Rejected, match="Moved Permanently"):
        connect(serve(answers(elsewhere))).version()


# -- time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_change", [False, True])
def test_a_server_that_drips_does_not_extend_the_deadline(serve, connect, is_change):
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + b" " * 500
    client = connect(serve(answers(Drip(response, every_s=0.05))), timeout_s=0.5)
    call, error = (
        (lambda: client.start("pve1", 9000), OutcomeUnknown)
        if is_change
        else (client.version, TimedOut)
    )
    started_at = time.monotonic()
    with pytest.raises(error):
        call()
    assert 0.4 < time.monotonic() - started_at < 1.5


def test_a_server_that_drips_its_headers_does_not_either(serve, connect):
    server = serve(answers(Drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200, every_s=0.02)))
    started_at = time.monotonic()
    with pytest.raises(TimedOut):
        connect(server).version(timeout_s=0.5)
    assert time.monotonic() - started_at < 1.5


def test_a_handshake_that_never_ends_is_given_up(connect, silent_port):
    started_at = time.monotonic()
    with pytest.raises(TimedOut):
        connect(silent_port).start("pve1", 9000, timeout_s=0.5)
    assert time.monotonic() - started_at < 1.5


def test_a_hanging_change_leaves_its_outcome_unknown(serve, connect):
    with pytest.raises(OutcomeUnknown, match="no complete answer in time"):
        connect(serve(answers(Hang()))).start("pve1", 9000, timeout_s=0.4)


def test_a_silent_endpoint_leaves_a_change_time_for_another(serve, connect, silent_port):
    client = connect(silent_port, serve(answers(data(UPID))))
    assert str(client.start("pve1", 9000, timeout_s=1)) == UPID


def test_a_hanging_endpoint_leaves_time_for_another(serve, connect):
    hanging, healthy = serve(answers(Hang())), serve(answers(VERSION))
    client = connect(hanging, healthy)
    assert client.version(timeout_s=1).release == "8.4"


def test_a_call_has_its_clients_deadline_unless_it_brings_one(serve, connect):
    client = connect(serve(answers(Hang())), timeout_s=0.3)
    started_at = time.monotonic()
    with pytest.raises(TimedOut):
        client.version()
    assert time.monotonic() - started_at < 1.2


@pytest.mark.parametrize("timeout_s", [0, -1, True, "5", float("nan"), float("inf"), None])
def test_a_deadline_is_a_positive_number(serve, connect, timeout_s):
    with pytest.raises(ValueError, match="timeout"):
        connect(serve(answers(VERSION)), timeout_s=timeout_s)


# -- the proxy layer -------------------------------------------------------------------------------


def test_a_node_that_one_endpoint_cannot_reach_is_asked_through_another(serve, connect):
    lost = serve(answers(Say("", 595, "No route to host")))
    found = serve(answers(VERSION))
    assert connect(lost, found).version().release == "8.4"


def test_a_node_that_no_endpoint_can_reach_is_unreachable(serve, connect):
    servers = [serve(answers(Say("", 595, "No route to host"))) for _ in range(2)]
    with pytest.raises(Unreachable, match="No route to host") as raised:
        connect(*servers).guest_status("pve2", 100)
    assert raised.value.status == 595


def test_a_change_that_did_not_reach_its_node_may_be_repeated_by_the_caller(serve, connect):
    first = serve(answers(Say("", 595, "Connection refused")))
    second = serve(answers(data(UPID)))
    with pytest.raises(Unreachable):
        connect(first, second).start("pve1", 9000)
    assert second.seen == []


@pytest.mark.parametrize("status", [596, 599])
def test_a_change_lost_between_nodes_is_unknown(serve, connect, status):
    with pytest.raises(OutcomeUnknown):
        connect(serve(answers(Say("", status, "Broken pipe")))).stop("pve1", 9000)


# -- endpoints and breakers ------------------------------------------------------------------------


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


# -- certificates ----------------------------------------------------------------------------------


@pytest.fixture
def other_ca(tmp_path) -> str:
    return make_authority(tmp_path).ca_pem


def test_a_certificate_of_another_ca_is_refused_before_anything_is_sent(serve, connect, other_ca):
    server = serve(answers(VERSION))
    client = connect(server, tls=Tls.from_ca(other_ca))
    for call in (client.version, lambda: client.start("pve1", 9000)):
        with pytest.raises(Untrusted, match=": certificate verify failed: "):
            call()
    assert server.seen == []


def test_a_certificate_for_another_host_is_refused(connect, tmp_path):
    elsewhere = make_authority(tmp_path, "pve9.example.org")
    with serving(elsewhere.server_context(), answers(VERSION)) as server:
        with pytest.raises(Untrusted, match="certificate"):
            connect(server, tls=Tls.from_ca(elsewhere.ca_pem)).version()
        assert server.seen == []


def test_a_ca_may_be_a_file(serve, connect, authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text(authority.ca_pem)
    assert connect(serve(answers(VERSION)), tls=Tls.from_ca_file(path)).version()


def test_the_systems_cas_do_not_know_proxmox(serve, connect):
    with pytest.raises(Untrusted):
        connect(serve(answers(VERSION)), tls=Tls.system()).version()


def test_a_pinned_certificate_is_trusted_whoever_signed_it(serve, connect, authority):
    pin = authority.fingerprint
    colons = ":".join(pin[i : i + 2] for i in range(0, 64, 2)).upper()
    for text in (pin, colons, f"{'0' * 64}, {pin}"):
        server = serve(answers(VERSION))
        assert connect(server, tls=Tls.pinned(text)).version()


def test_another_certificate_than_the_pinned_one_is_refused(serve, connect):
    server = serve(answers(data(UPID)))
    with pytest.raises(Untrusted, match="fingerprint"):
        connect(server, tls=Tls.pinned("0" * 64)).start("pve1", 9000)
    assert server.seen == []


@pytest.mark.parametrize("text", ["", "abc", "0" * 63, "g" * 64, "0" * 40])
def test_a_fingerprint_is_a_sha256(text):
    with pytest.raises(ValueError, match="fingerprint"):
        Tls.pinned(text)


def test_insecure_takes_anything_and_says_so(serve, connect, caplog):
    assert connect(serve(answers(VERSION)), tls=Tls.insecure()).version()
    assert "TLS certificates are not checked" in caplog.text


@pytest.mark.parametrize(("pin_is_right"), [True, False])
def test_the_same_check_serves_asyncio(serve, authority, pin_is_right):
    """The console's websocket is opened with the same trust."""
    server = serve(answers(VERSION))
    pin = authority.fingerprint if pin_is_right else "0" * 64

    async def handshake() -> None:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", server.port, ssl=Tls.pinned(pin).context()
        )
        writer.close()
        await writer.wait_closed()

    if pin_is_right:
        asyncio.run(handshake())
    else:
        with pytest.raises(OSError, match="fingerprint"):
            asyncio.run(handshake())


# -- threads ---------------------------------------------------------------------------------------


def test_one_client_serves_many_threads(serve, connect):
    def answer(seen: Seen):
        vmid = int(seen.path.split("/")[6])
        return data({"vmid": vmid, "status": "running", "qmpstatus": "running"})

    server = serve(answer)
    client = connect(server)
    wrong: list[object] = []

    def look(number: int) -> None:
        for round_ in range(5):
            vmid = 100 + number * 10 + round_
            status = client.guest_status("pve1", vmid)
            if status.vmid != vmid:
                wrong.append((vmid, status.vmid))

    threads = [threading.Thread(target=look, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(server.seen) == 32 * 5
    assert server.handshakes <= 32


def test_deadlines_of_threads_do_not_mix(serve, connect):
    server = serve(lambda seen: Hang() if "/pve2/" in seen.path else VERSION)
    client = connect(server)
    started = threading.Event()
    failures: list[BaseException] = []

    def hang() -> None:
        started.set()
        try:
            client.guest_status("pve2", 100, timeout_s=0.5)
        except TimedOut as error:
            failures.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    started.wait()
    while thread.is_alive():
        assert client.version(timeout_s=5).release == "8.4"
    thread.join()
    assert len(failures) == 1


# -- metrics ---------------------------------------------------------------------------------------


def test_every_call_is_counted_by_its_template(serve, connect):
    calls: list[tuple[str, str, str]] = []
    missing = Say(
        {"data": None}, 500, "Configuration file 'nodes/pve1/qemu-server/9.conf' does not exist"
    )
    client = connect(
        serve(answers(VERSION, missing)),
        on_call=lambda method, path, outcome, took_s: calls.append((method, path, outcome)),
    )
    client.version()
    with pytest.raises(NotFound):
        client.guest_config("pve1", 100)
    with pytest.raises(ValueError, match="VMID"):
        client.guest_config("pve1", 1)
    assert calls == [
        ("GET", "version", "ok"),
        ("GET", "nodes/{node}/qemu/{vmid}/config", "NotFound"),
    ]
