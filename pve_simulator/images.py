"""Files on a storage: uploads, downloads over HTTP, and what is inside an image."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from . import volumes
from .errors import PveError, bad_parameter
from .simulator import Simulator
from .tasks import Job
from .world import MIB, Storage, Volume

KEPT_BYTES = 4 * MIB
"""Uploads up to this size are kept, so that a test can read back what it sent."""
UPLOAD_S = 0.2
QCOW2_MAGIC = b"QFI\xfb"
_EXTENSIONS = {
    "iso": r"\.(iso|img)\Z",
    "vztmpl": r"\.tar\.(gz|xz|zst|bz2)\Z",
    "import": r"\.(ova|ovf|qcow2|raw|vmdk)\Z",
}
_FOLDERS = {"iso": "iso", "vztmpl": "vztmpl", "import": "import"}


@dataclass(slots=True)
class Received:
    """A file that arrived: its length, its first bytes, and its sums by algorithm."""

    size: int
    head: bytes
    sums: dict[str, str]


UPLOAD = web.RequestKey("upload", Received)
"""Where a request keeps the file of its form."""


class Receiver:
    """Takes a file in pieces; keeps its head and, if wanted, one checksum."""

    def __init__(self, algorithm: str | None = None) -> None:
        self._algorithm = algorithm
        self._sum = hashlib.new(algorithm) if algorithm else None
        self._size = 0
        self._head = bytearray()

    def feed(self, piece: bytes) -> None:
        self._size += len(piece)
        if len(self._head) < KEPT_BYTES:
            self._head += piece[: KEPT_BYTES - len(self._head)]
        if self._sum is not None:
            self._sum.update(piece)

    def end(self) -> Received:
        sums = {self._algorithm or "": self._sum.hexdigest() if self._sum else ""}
        return Received(self._size, bytes(self._head), sums)


def clean_name(filename: str) -> str:
    """The last part, odd characters replaced: `../x y.iso` becomes `x_y.iso`."""
    last = re.split(r"[/\\]", filename)[-1]
    return re.sub(r"[^-a-zA-Z0-9_.]", "_", last)


def check_name(content: str, name: str) -> None:
    if re.search(_EXTENSIONS[content], name, re.IGNORECASE):
        return
    text = "invalid filename or wrong extension" if content == "import" else "wrong file extension"
    raise bad_parameter("filename", text)


def require_content(storage: Storage, node: str, content: str) -> None:
    volumes.require_usable(storage, node, content)


def add_file(
    sim: Simulator, storage: Storage, node: str, content: str, name: str, file: Received
) -> Volume:
    """The file as a volume; one of the same name is replaced without a word."""
    volumes.require_space(sim, storage, node, file.size)
    volid = f"{storage.name}:{_FOLDERS[content]}/{name}"
    volume = Volume(
        volid,
        content,
        name.rsplit(".", 1)[-1].lower() if content != "vztmpl" else "tgz",
        file.size,
        file.size,
        int(sim.clock.now()),
        data=virtual_size(file) if content == "import" else 0,
        system="linux" if content == "import" else "",
        payload=file.head if file.size <= KEPT_BYTES else None,
    )
    volumes.add(sim, storage, node, volume)
    return volume


def virtual_size(file: Received) -> int:
    """The disk inside an image: from a qcow2 header, else the file's own length."""
    if file.head[:4] == QCOW2_MAGIC and len(file.head) >= 32:
        return int.from_bytes(file.head[24:32], "big") or file.size
    return file.size


async def upload(
    sim: Simulator,
    job: Job,
    *,
    storage: Storage,
    node: str,
    content: str,
    name: str,
    file: Received,
) -> None:
    """The worker of imgcopy."""
    temporary = f"/var/tmp/pveupload-{secrets.token_hex(16)}"  # noqa: S108 (a text in a log)
    path = volumes.file_path(storage, f"{storage.name}:{_FOLDERS[content]}/{name}")
    job.say(f"starting file import from: {temporary}")
    job.say(f"target node: {node}")
    job.say(f"target file: {path}")
    job.say(f"file size is: {file.size}")
    job.say(f"command: cp -- {temporary} {path}")
    await job.sleep(UPLOAD_S + file.size / storage.copy_bytes_s)
    add_file(sim, storage, node, content, name, file)
    job.say("finished file import successfully")


async def download(
    sim: Simulator,
    job: Job,
    *,
    storage: Storage,
    node: str,
    content: str,
    name: str,
    url: str,
    checksum: tuple[str, str] | None,
    verifies: bool,
) -> None:
    """The worker of download: really fetches, checks the sum, refuses an existing name."""
    path = volumes.file_path(storage, f"{storage.name}:{_FOLDERS[content]}/{name}")
    job.say(f"downloading {url} to {path}")
    if sim.world.find_volume(f"{storage.name}:{_FOLDERS[content]}/{name}", node) is not None:
        raise PveError(f"refusing to override existing file '{path}'")
    await job.sleep(UPLOAD_S)
    file = await _fetch(job, url, f"{path}.tmp_dwnl.{job.record.pid}", checksum, verifies)
    if checksum is not None:
        got = file.sums[checksum[0]]
        if got != checksum[1].lower():
            job.say("calculating checksum...")
            raise PveError(f"checksum mismatch: got '{got}' != expect '{checksum[1]}'")
        job.say("calculating checksum...OK, checksum verified")
    add_file(sim, storage, node, content, name, file)
    job.say(f"download of '{url}' to '{path}' finished")


async def _fetch(
    job: Job, url: str, path: str, checksum: tuple[str, str] | None, verifies: bool
) -> Received:
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    now = job.timestamp()
    job.say(f"--{now}--  {url}")
    receiver = Receiver(checksum[0] if checksum else None)
    try:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            # As it came: requoting would break a signature.
            session.get(URL(url, encoded=True), ssl=verifies) as answer,
        ):
            job.say(f"Connecting to {host}... connected.")
            status = f"{answer.status} {answer.reason}"
            job.say(f"HTTP request sent, awaiting response... {status}")
            if answer.status >= 400:
                job.say(f"{now} ERROR {answer.status}: {answer.reason}.")
                raise PveError("download failed: exit code 8")
            job.say(f"Length: {answer.content_length or 0} [{answer.content_type}]")
            job.say(f"Saving to: '{path}'")
            async for piece in answer.content.iter_chunked(MIB):
                receiver.feed(piece)
    except aiohttp.ClientConnectorCertificateError:
        raise PveError("download failed: exit code 5") from None
    except aiohttp.ClientConnectorError:
        raise PveError(
            f"download failed: Connecting to {host}... failed: Connection refused."
        ) from None
    except aiohttp.ClientError:
        raise PveError("download failed: exit code 4") from None
    file = receiver.end()
    job.say("     0K ........ .....                     100%  577M=0.02s")
    job.say(f"{now} (577 MB/s) - '{path}' saved [{file.size}/{file.size}]")
    return file


async def metadata(url: str, *, verifies: bool) -> dict[str, object]:
    """What a HEAD request tells of a URL."""
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.head(URL(url, encoded=True), ssl=verifies) as answer,
        ):
            if answer.status >= 400:
                text = f"invalid server response: '{answer.status} {answer.reason}'"
                raise PveError(text)
            found: dict[str, object] = {
                "filename": clean_name(urlsplit(url).path),
                "mimetype": answer.content_type,
            }
            if answer.content_length is not None:
                found["size"] = answer.content_length
            return found
    except aiohttp.ClientError as error:
        raise PveError(f"invalid server response: '500 {error}'") from None
