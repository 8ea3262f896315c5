"""Lost answers, slow ones, the proxy layer, and many threads at once."""

from __future__ import annotations

import threading
import time

import pytest

from proxmox import BadAnswer, NotFound, OutcomeUnknown, Rejected, TimedOut, Unreachable
from tests.proxmox.server import UPID, VERSION, Drip, Drop, Hang, Say, Seen, answers, data

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


def test_a_connection_that_idled_for_long_is_not_trusted_with_a_change(serve, connect):
    """pveproxy closes after 5 s: the request could cross with the closing."""
    server = serve(answers(data(UPID)))
    client = connect(server)
    client.start("pve1", 9000)
    (kept,) = [each for each in client._transport._routes[0].pool.pool.queue if each]
    kept._used_at -= 5
    client.start("pve1", 9000)
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
