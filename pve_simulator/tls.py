"""A CA of the simulator's own and the certificate that it signs for the nodes."""

from __future__ import annotations

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CA_FILE = "ca.pem"
CERTIFICATE_FILE = "server.pem"


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: `ca_file` for clients, `server_file` (key and chain) for the server."""

    ca_file: Path
    server_file: Path


def ensure_certificates(folder: Path, node_names: tuple[str, ...]) -> Certificates:
    """The folder's certificates; made when missing or when they lack a node name."""
    found = Certificates(folder / CA_FILE, folder / CERTIFICATE_FILE)
    if found.ca_file.exists() and found.server_file.exists() and _names(found, node_names):
        return found
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, ca = _make_ca()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _sign_leaf(ca_key, ca, key, node_names)
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomically(found.ca_file, ca.public_bytes(pem))
    chain = private + leaf.public_bytes(pem) + ca.public_bytes(pem)
    write_atomically(found.server_file, chain, mode=0o600)
    return found


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace a file; a reader, or a start after kill -9, sees the old one or the new one."""
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 as Proxmox writes it: upper-case pairs joined by colons."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def load_certificates(found: Certificates) -> tuple[x509.Certificate, x509.Certificate]:
    """The CA's certificate and the server's own."""
    ca = x509.load_pem_x509_certificate(found.ca_file.read_bytes())
    leaf = x509.load_pem_x509_certificates(found.server_file.read_bytes())[0]
    return ca, leaf


def describe(certificate: x509.Certificate, filename: str) -> dict[str, object]:
    """One entry of `/nodes/N/certificates/info`."""
    key = certificate.public_key()
    entry: dict[str, object] = {
        "filename": filename,
        "fingerprint": fingerprint(certificate),
        "issuer": _slashed(certificate.issuer),
        "subject": _slashed(certificate.subject),
        "notbefore": int(certificate.not_valid_before_utc.timestamp()),
        "notafter": int(certificate.not_valid_after_utc.timestamp()),
        "pem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "public-key-bits": getattr(key, "key_size", 0),
        "public-key-type": "id-ecPublicKey",
        "san": [],
    }
    try:
        san = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        entry["san"] = [str(name.value) for name in san]
    except x509.ExtensionNotFound:
        pass
    return entry


def _slashed(name: x509.Name) -> str:
    short = {NameOID.COMMON_NAME: "CN", NameOID.ORGANIZATION_NAME: "O"}
    short[NameOID.ORGANIZATIONAL_UNIT_NAME] = "OU"
    parts = [(short.get(part.oid, part.oid.dotted_string), str(part.value)) for part in name]
    return "".join(f"/{label}={value}" for label, value in parts)


def _names(found: Certificates, node_names: tuple[str, ...]) -> bool:
    try:
        _, leaf = load_certificates(found)
        san = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    return set(node_names) <= set(san.get_values_for_type(x509.DNSName))


def _make_ca() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, "Proxmox Virtual Environment"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, os.urandom(16).hex()),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "PVE Cluster Manager CA"),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        _builder(name, name, key.public_key(), days=3650)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return key, builder.sign(key, hashes.SHA256())


def _sign_leaf(
    ca_key: ec.EllipticCurvePrivateKey,
    ca: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    node_names: tuple[str, ...],
) -> x509.Certificate:
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "PVE Cluster Node"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Proxmox Virtual Environment"),
            x509.NameAttribute(NameOID.COMMON_NAME, node_names[0]),
        ]
    )
    loopback = [ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1")]
    san: list[x509.GeneralName] = [x509.IPAddress(address) for address in loopback]
    san += [x509.DNSName(host) for host in ("localhost", *node_names)]
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        _builder(name, ca.subject, key.public_key(), days=730)
        .add_extension(x509.SubjectAlternativeName(san), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(authority, critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )
