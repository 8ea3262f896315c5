"""A CA, servers with certificates of it, and clients that are closed after the test."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from proxmox import Client, Tls, Token
from tests.proxmox.server import Answer, Server

TOKEN = Token("izvor@pve", "api", "11111111-2222-3333-4444-555555555555")


@dataclass(frozen=True)
class Authority:
    """A CA and a server certificate for 127.0.0.1 and localhost that it signed."""

    ca_pem: str
    certificate: Path
    fingerprint: str

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        return context


def make_authority(folder: Path, *names: str) -> Authority:
    """`names` are the host names in the certificate, `localhost` where none are given."""
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Proxmox test CA")])
    ca = (
        _certificate(ca_name, ca_name, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pve1")])
    hosts = [
        *(x509.DNSName(host) for host in names or ["localhost"]),
        *([] if names else [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
    ]
    certificate = (
        _certificate(name, ca_name, key)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem, key_pem = (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    path = folder / "server.pem"
    path.write_bytes(pem + key_pem)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return Authority(
        ca.public_bytes(serialization.Encoding.PEM).decode(),
        path,
        hashlib.sha256(der).hexdigest(),
    )


def _certificate(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def serve(authority: Authority) -> Iterator[Callable[[Answer], Server]]:
    """Starts servers that live as long as the test."""
    servers: list[Server] = []

    def start(answer: Answer) -> Server:
        servers.append(Server(authority.server_context(), answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def connect(authority: Authority) -> Iterator[Callable[..., Client]]:
    """Makes clients that trust the servers, and closes them."""
    clients: list[Client] = []

    def make(*endpoints: str | Server, **options: Any) -> Client:
        urls = [where.url if isinstance(where, Server) else where for where in endpoints]
        settings: dict[str, Any] = {
            "credentials": TOKEN,
            "tls": Tls.from_ca(authority.ca_pem),
            "timeout_s": 10,
            **options,
        }
        clients.append(Client(urls, **settings))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


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
