from __future__ import annotations

import http.client
import socket
import ssl

import pytest

from pve_simulator import accidents
from pve_simulator.testing import SimulatorThread
from tests.simulator.client import Api


def test_plain_http_is_sent_to_https(sim: SimulatorThread):
    connection = http.client.HTTPConnection("127.0.0.1", sim.port, timeout=10)
    try:
        connection.request("GET", "/api2/json/version")
        answer = connection.getresponse()
        assert answer.status == 301
        assert answer.getheader("Location") == f"https://127.0.0.1:{sim.port}/api2/json/version"
    finally:
        connection.close()


@pytest.mark.parametrize("noise", [b"", b"\x16\x03\x01", b"\x16garbage" * 50, b"\0" * 100])
def test_noise_on_the_port_does_no_harm(sim: SimulatorThread, api: Api, noise: bytes):
    with socket.create_connection(("127.0.0.1", sim.port), timeout=10) as connection:
        connection.sendall(noise)
    assert api.get("/version").status == 200


def ask(sim: SimulatorThread, node: str, path: str) -> int:
    tls = ssl.create_default_context(cafile=str(sim.ca_file))
    port = int(sim.url_of(node).rsplit(":", 1)[1])
    connection = http.client.HTTPSConnection("127.0.0.1", port, context=tls, timeout=10)
    token = f"PVEAPIToken={sim.token_id}={sim.token_secret}"
    try:
        connection.request("GET", f"/api2/json{path}", headers={"Authorization": token})
        return connection.getresponse().status
    finally:
        connection.close()


def test_each_node_can_have_an_endpoint_that_dies_with_it():
    with SimulatorThread(has_endpoint_per_node=True) as sim:
        assert ask(sim, "pve2", "/nodes/pve2/status") == 200
        sim.cause(accidents.node_down, node="pve2")
        with pytest.raises((ConnectionResetError, ssl.SSLError, OSError)):
            ask(sim, "pve2", "/version")
        assert ask(sim, "pve", "/nodes/pve2/status") == 595
        sim.cause(accidents.node_up, node="pve2")
        assert ask(sim, "pve2", "/version") == 200
