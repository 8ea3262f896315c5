"""Whom to trust: a CA, a pinned certificate, the system, or (said loudly) anybody."""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxmox.deadline import current_attempt

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

logger = logging.getLogger(__name__)

_FINGERPRINT = re.compile(r"[0-9a-f]{64}")


class PinnedContext(ssl.SSLContext):
    """A TLS context whose handshakes end within the call's deadline and check pinned certificates.

    Works for blocking sockets (the client) and for asyncio (a console's websocket) alike.
    """

    fingerprints: frozenset[str] = frozenset()

    def check_pin(self, certificate: bytes | None) -> None:
        """Raises SSLCertVerificationError for a certificate (DER) that is not a pinned one."""
        if not self.fingerprints:
            return
        shown = hashlib.sha256(certificate or b"").hexdigest()
        if shown not in self.fingerprints:
            raise ssl.SSLCertVerificationError(
                f"the certificate has the fingerprint {shown}, which is not the expected one"
            )


class DeadlineSocket(ssl.SSLSocket):
    """Cuts each wait to what remains of the call, and notes when the request begins to leave."""

    def _cut_to_deadline(self) -> None:
        attempt = current_attempt()
        if attempt is not None:
            self.settimeout(attempt.time_left_s())

    def do_handshake(self, block: bool = False) -> None:
        # Still under the connection's timeout: a port that takes connections and stays silent is
        # as dead as one that takes none.
        longest_s, attempt = self.gettimeout(), current_attempt()
        if attempt is not None:
            left_s = attempt.time_left_s()
            self.settimeout(left_s if longest_s is None else min(longest_s, left_s))
        super().do_handshake(block)
        if isinstance(self.context, PinnedContext):
            self.context.check_pin(self.getpeercert(binary_form=True))

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        self._cut_to_deadline()
        return super().recv(buflen, flags)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        self._cut_to_deadline()
        return super().recv_into(buffer, nbytes, flags)

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        self._cut_to_deadline()
        attempt = current_attempt()
        if attempt is not None:
            attempt.has_sent = True
        return super().send(data, flags)


class PinnedObject(ssl.SSLObject):
    """What asyncio makes of the same context."""

    def do_handshake(self) -> None:
        super().do_handshake()
        if isinstance(self.context, PinnedContext):
            self.context.check_pin(self.getpeercert(binary_form=True))


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server's certificate is checked. Made by one of the class methods below."""

    _cafile: str | None = None
    _cadata: str | None = None
    _fingerprints: frozenset[str] = frozenset()
    _is_insecure: bool = False

    @classmethod
    def system(cls) -> Tls:
        """Certificates of public CAs, and those the machine's administrator added."""
        return cls()

    @classmethod
    def from_ca(cls, pem: str) -> Tls:
        """Certificates signed by the CA in this PEM text, for the host name that was asked."""
        return cls(_cadata=pem)

    @classmethod
    def from_ca_file(cls, path: str | Path) -> Tls:
        """The same from a file (on a Proxmox node: /etc/pve/pve-root-ca.pem)."""
        return cls(_cafile=str(path))

    @classmethod
    def pinned(cls, *sha256: str) -> Tls:
        """These very certificates, by SHA-256 in hex, with or without colons; one for each node.

        Several may also stand in one text, separated by commas or spaces. Raises ValueError for
        what is no such fingerprint.
        """
        texts = [part for text in sha256 for part in re.split(r"[,\s]+", text) if part]
        pins = frozenset(text.replace(":", "").lower() for text in texts)
        if not pins or not all(_FINGERPRINT.fullmatch(pin) for pin in pins):
            raise ValueError("a certificate's fingerprint is its SHA-256 in hex: 64 digits")
        return cls(_fingerprints=pins)

    @classmethod
    def insecure(cls) -> Tls:
        """Any certificate: whoever stands between can read and change everything."""
        return cls(_is_insecure=True)

    def context(self) -> PinnedContext:
        """Raises OSError for a CA file that cannot be read, ssl.SSLError for one that holds none.

        Without Python's newer VERIFY_X509_STRICT, which refuses the root CAs that Proxmox made for
        clusters installed some years ago (they carry no key usage).
        """
        context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
        context.sslsocket_class = DeadlineSocket
        context.sslobject_class = PinnedObject
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self._is_insecure or self._fingerprints:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            context.fingerprints = self._fingerprints
        elif self._cafile or self._cadata:
            # What a PEM text says beside its certificates is for people, and may be in any letters.
            pem = self._cadata and self._cadata.encode("ascii", "ignore").decode()
            context.load_verify_locations(cafile=self._cafile, cadata=pem)
        else:
            context.load_default_certs()
        if self._is_insecure:
            logger.warning("TLS certificates are not checked: anybody in between can be Proxmox")
        return context


def is_untrusted(error: BaseException | None) -> bool:
    """Whether `error` was caused by a certificate that is not trusted."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        seen.add(id(error))
        inner: Any = error.args[0] if error.args else None
        error = inner if isinstance(inner, BaseException) else error.__cause__ or error.__context__
    return False
