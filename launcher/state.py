"""The state folder: all that Izvor keeps on this machine; `.izvor/`, or what IZVOR_STATE_DIR says.

    lock          held while something runs on the folder; names its process
    secrets.json  generated once: Django's key, the admin's password, the simulator's credentials
    postgres/  valkey/  simulator/  worker/   each program's own data
    logs/         one file per program

Mode 0700, and nothing in it is readable by another user.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from launcher.errors import LaunchError

START_AFRESH = "`make clean` starts afresh (it removes all local data)"
#: sun_path holds 108 bytes on Linux and 104 on macOS, its final zero included.
MAX_SOCKET_PATH_BYTES = 103
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
MEMORY = Path("/dev/shm")  # noqa: S108  (a private folder is made in it)
MEMORY_NEEDED = 2 * 1024**3


@dataclass(frozen=True)
class Secrets:
    """What the first start makes up. `repr` must not show it."""

    secret_key: str
    admin_password: str
    simulator_token: str
    simulator_password: str

    def __repr__(self) -> str:
        return "Secrets(…)"


@dataclass
class StateFolder:
    """An opened, locked state folder. `close()` gives the lock back."""

    path: Path
    lock_descriptor: int
    made_sockets: Path | None = None

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def folder(self, name: str) -> Path:
        """A private subfolder, made when missing."""
        folder = self.path / name
        _make_private(folder)
        return folder

    def sockets(self) -> Path:
        """Where the servers' sockets go: the state folder, or, where a socket cannot be reached, a
        private folder with a short name that is this state folder's alone."""
        if _can_hold_sockets(self.path):
            return self.path
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]
        bases = (os.environ.get("XDG_RUNTIME_DIR"), "/tmp")  # noqa: S108  (0700 and owner checked)
        for base in filter(None, bases):
            folder = Path(base) / f"izvor-{os.geteuid()}-{digest}"
            if _can_hold_sockets(folder):
                try:
                    _make_private(folder, may_be_link=False)
                except LaunchError:
                    continue
                self.made_sockets = folder
                return folder
        raise LaunchError(
            "The path of the state folder is too long for a Unix socket, or holds what an address "
            f"has to escape: {self.path}. Name another one with IZVOR_STATE_DIR."
        )

    def secrets(self) -> Secrets:
        """The generated secrets, made on the first call."""
        file = self.path / "secrets.json"
        if not file.exists():
            made = Secrets(
                secret_key=secrets.token_urlsafe(48),
                admin_password=secrets.token_urlsafe(12),
                simulator_token=str(uuid.uuid4()),
                simulator_password=secrets.token_urlsafe(12),
            )
            write_private(file, json.dumps(asdict(made), indent=2) + "\n")
            return made
        try:
            return Secrets(**json.loads(file.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise LaunchError(f"The file {file} is damaged: {START_AFRESH}.") from error

    def close(self) -> None:
        """Give the lock back; guards that still run keep it until they end."""
        if self.made_sockets:
            for socket in self.made_sockets.iterdir():
                socket.unlink(missing_ok=True)
            self.made_sockets.rmdir()
            self.made_sockets = None
        if self.lock_descriptor >= 0:
            os.close(self.lock_descriptor)
            self.lock_descriptor = -1


def open_state(path: Path, *, say: Callable[[str], None] = lambda _: None) -> StateFolder:
    """Make or check the folder and lock it.

    After a kill -9 the guards of the last run hold the lock for the moment they need to stop
    their children; that is waited for. Raises LaunchError with the sentence to print.
    """
    path = Path(os.path.abspath(path.expanduser()))  # noqa: PTH100  (resolve() would follow links)
    file = path / "lock"
    if path.is_dir() and not file.exists() and _holds_anything(path):
        raise LaunchError(
            f"{path} holds files that are not Izvor's: empty it, or name another place with "
            "IZVOR_STATE_DIR."
        )
    _make_private(path)
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise LaunchError(f"Cannot open {file}: {error.strerror}.") from error
    holder = _take_lock(descriptor, patience_s=8.0, say=say)
    if holder is not None:
        os.close(descriptor)
        by = f" (process {holder})" if holder else ""
        raise LaunchError(
            f"Izvor already runs on {path}{by}: stop it with Ctrl-C there, "
            "or name another state folder with IZVOR_STATE_DIR."
        )
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return StateFolder(path=path, lock_descriptor=descriptor)


def remove_state(path: Path) -> int:
    """Remove a state folder, unless something runs on it or it is no such folder."""
    if not path.exists():
        return 0
    state = open_state(path)
    state.sockets()
    shutil.rmtree(state.path, ignore_errors=True)
    state.close()
    if path.exists():
        raise LaunchError(f"Not all of {path} could be removed.")
    return 0


def in_use(path: Path) -> bool:
    """Whether something runs on this state folder now."""
    try:
        descriptor = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _try_lock(descriptor)
    finally:
        os.close(descriptor)


def open_temporary_state() -> StateFolder:
    """A state folder for one run, in memory where there is room, else in the system's temporary
    folder. Those that a killed run left behind are removed first."""
    parent = _in_memory() or Path(tempfile.gettempdir())
    for left in parent.glob("izvor-run-*"):
        if _is_ours(left) and not in_use(left):
            shutil.rmtree(left, ignore_errors=True)
    return open_state(Path(tempfile.mkdtemp(prefix="izvor-run-", dir=parent)))


def _in_memory() -> Path | None:
    """Linux's folder in memory, unless TMPDIR names another place or it is small, as in containers.

    Each test empties some thirty tables, which on a disk is a hundred files made and removed."""
    try:
        is_roomy = shutil.disk_usage(MEMORY).free > MEMORY_NEEDED
    except OSError:
        return None
    return MEMORY if is_roomy and not os.environ.get("TMPDIR") else None


def write_private(file: Path, text: str) -> None:
    """Write a 0600 file in one move, so that a crash leaves the old one or the new one."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    with os.fdopen(descriptor, "w") as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
    Path(name).replace(file)


def _take_lock(descriptor: int, *, patience_s: float, say: Callable[[str], None]) -> str | None:
    """None once we hold the lock, else the process id of who does ("" when unknown)."""
    deadline = time.monotonic() + patience_s
    said = False
    while not _try_lock(descriptor):
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        if _runs(holder) or time.monotonic() > deadline:
            return holder
        if not said:
            say("The last run was killed; waiting until its servers have stopped …")
            said = True
        time.sleep(0.05)
    return None


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _runs(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    return True


def _can_hold_sockets(folder: Path) -> bool:
    """The path must be short enough, and look the same in an address: libpq reads a comma as the
    start of another host, and Flower's page of the broker takes `%20` for the name."""
    socket = os.fsencode(folder / LONGEST_SOCKET_NAME)
    return len(socket) <= MAX_SOCKET_PATH_BYTES and quote(socket).encode() == socket


def _holds_anything(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False  # what is wrong with it is said by whoever uses it


def _is_ours(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()


def _make_private(folder: Path, *, may_be_link: bool = True) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat(follow_symlinks=may_be_link)
    except FileExistsError as error:
        raise LaunchError(
            f"{folder} is not a folder: move it away, or name another place with IZVOR_STATE_DIR."
        ) from error
    except OSError as error:
        raise LaunchError(f"Cannot use {folder} as state folder: {error.strerror}.") from error
    if status.st_uid != os.geteuid():
        raise LaunchError(
            f"{folder} belongs to another user (uid {status.st_uid}): start Izvor as that user, "
            "or name another place with IZVOR_STATE_DIR."
        )
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise LaunchError(
            f"Cannot write into {folder}: give yourself the right to, or `make clean`."
        )
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)
