"""The first words of RFB, VNC's protocol, as a client says them (RFC 6143, section 7.1)."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes

from proxmox.errors import BadAnswer, Rejected

VERSION = b"RFB 003.008\n"
NO_AUTHENTICATION, VNC_AUTHENTICATION = 1, 2
REASON_BYTES_MAX = 1000

Send = Callable[[bytes], Awaitable[None]]


class Reader:
    """Bytes that come in messages of any size, read by length. `left` came and was not read yet."""

    def __init__(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        """`receive` gives the next message, and raises when there is none any more."""
        self._receive = receive
        self.left = b""

    async def read(self, length: int) -> bytes:
        while len(self.left) < length:
            self.left += await self._receive()
        data, self.left = self.left[:length], self.left[length:]
        return data


async def log_in(reader: Reader, send: Send, password: str) -> None:
    """From the server's first word to its welcome; what follows is ClientInit.

    Raises BadAnswer for what is no VNC server, Rejected where it does not let us in.
    """
    if not (await reader.read(len(VERSION))).startswith(b"RFB 003."):
        raise BadAnswer("what answered at the screen's port is no VNC server")
    await send(VERSION)
    offered = await reader.read((await reader.read(1))[0])
    if VNC_AUTHENTICATION in offered:
        await send(bytes([VNC_AUTHENTICATION]))
        await send(answer_challenge(password, await reader.read(16)))
    elif NO_AUTHENTICATION in offered:
        await send(bytes([NO_AUTHENTICATION]))
    elif offered:
        kinds = ", ".join(str(kind) for kind in offered)
        raise Rejected(f"the VNC server wants a kind of login that is not spoken here ({kinds})")
    else:
        raise Rejected(f"the VNC server refused: {await _reason(reader)}")
    if await reader.read(4) != bytes(4):
        raise Rejected(f"the VNC server did not let us in: {await _reason(reader)}")


def answer_challenge(password: str, challenge: bytes) -> bytes:
    """The challenge enciphered with DES. The key is the password's first 8 bytes, the bits of each
    mirrored; three times the same key makes DES of triple DES."""
    key = password.encode()[:8].ljust(8, b"\0")
    mirrored = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    encryptor = Cipher(TripleDES(mirrored * 3), modes.ECB()).encryptor()  # noqa: S305 (VNC's own)
    return encryptor.update(challenge) + encryptor.finalize()


async def _reason(reader: Reader) -> str:
    (length,) = struct.unpack(">I", await reader.read(4))
    if length > REASON_BYTES_MAX:
        return "it does not say why"
    return (await reader.read(length)).decode("latin-1")
