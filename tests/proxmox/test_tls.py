"""Certificates: whom the client trusts, and that it says nothing to anybody else."""

from __future__ import annotations

import asyncio

import pytest

from proxmox import Tls, Untrusted
from tests.proxmox.conftest import make_authority
from tests.proxmox.server import UPID, VERSION, answers, data, serving


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
