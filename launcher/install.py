"""Makes the virtual environment and installs what the lock files pin, by hash.

Runs before anything is installed, so it imports nothing but the standard library and, of the
launcher, nothing at all. Called as `with_python.sh launcher/install.py FILE...`, with the
requirement files by name.

Two marks in the environment say how the last installation went: `izvor-installing` is there from
its first step to its last, so one that was broken off is noticed (pip would take a half-copied
package for an installed one) and done again from nothing; `izvor-installed.json` holds what was
installed, so that the next start has nothing to do.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UNFINISHED = VENV / "izvor-installing"
STAMP = VENV / "izvor-installed.json"
#: Who started us (make). When it is gone, so that nobody waits for us, we stop too.
PARENT = os.getppid()
LOG = VENV / "izvor-install.log"
#: What pip says, and what that means to a person; the first that fits.
REASONS = {
    r"no space left on device": "the disk is full",
    r"do not match the hashes": "a downloaded package is not the one that the lock file names: a "
    "proxy or mirror changed it, or the download broke off",
    r"NewConnectionError|failed to establish|name resolution|ConnectTimeout|ReadTimeout|ProxyError"
    r"|SSLError|connection (reset|aborted|broken)": "the package index could not be reached",
    r"no matching distribution": "the package index has no build of a package for Python {version} "
    "on this machine",
}


class InstallError(Exception):
    """The message is the sentence that a person reads."""


def main(names: list[str]) -> int:
    try:
        # One at a time: `make dev` and `make test` may start together.
        with (ROOT / names[0]).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _install(names)
    except InstallError as error:
        sys.stderr.write(f"izvor: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"izvor: cannot write {error.filename or VENV}: {error.strerror}.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nizvor: the installation was broken off; the next start does it anew.\n")
        return 130
    return 0


def _install(names: list[str]) -> None:
    wanted = {name: _digest(ROOT / name) for name in names}
    interpreter = _interpreter()
    if interpreter is not None and _installed(wanted, interpreter):
        return
    if interpreter is None or UNFINISHED.exists():
        begun = time.monotonic()
        _make_venv()
        _say(f"  ✓ virtual environment {time.monotonic() - begun:34.1f} s")
    known = _read_stamp().get("files", {})
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    _pip_install(names)
    stamp = {"python": _interpreter(), "files": {**known, **wanted}}
    draft = STAMP.with_suffix(".new")
    draft.write_text(json.dumps(stamp, indent=2) + "\n")
    draft.replace(STAMP)
    UNFINISHED.unlink()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _interpreter() -> str | None:
    """The environment's Python version, None when there is none that runs and is new enough."""
    question = (
        "import sys, platform, pip; assert sys.version_info >= (3, 11); "
        "assert sys.prefix != sys.base_prefix; print(platform.python_version())"
    )
    try:
        asked = subprocess.run(
            [str(PYTHON), "-I", "-c", question], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None


def _installed(wanted: dict[str, str], interpreter: str) -> bool:
    stamp = _read_stamp()
    return (
        not UNFINISHED.exists()
        and stamp.get("python") == interpreter
        and wanted.items() <= stamp.get("files", {}).items()
    )


def _read_stamp() -> dict:  # type: ignore[type-arg]
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _make_venv() -> None:
    if VENV.is_symlink() or VENV.is_file():
        raise InstallError(f"{VENV} is not a folder of ours: move it away.")
    looks_ours = (VENV / "pyvenv.cfg").exists() or UNFINISHED.exists()
    if VENV.exists() and not looks_ours and any(VENV.iterdir()):
        raise InstallError(f"{VENV} is not a virtual environment: move it away.")
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    UNFINISHED.touch()
    made = subprocess.run(
        [sys.executable, "-m", "venv", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if made.returncode == 0:
        return
    shutil.rmtree(VENV, ignore_errors=True)
    if "ensurepip" in made.stdout or "No module named venv" in made.stdout:
        short = ".".join(platform.python_version_tuple()[:2])
        raise InstallError(
            f"Python {short} at {sys.executable} lacks its venv module: install it "
            f"(Debian and Ubuntu: apt install python{short}-venv), or name another Python: "
            "make dev PYTHON=/path/to/python3"
        )
    raise InstallError(f"cannot make the virtual environment: {_last_line(made.stdout)}")


def _pip_install(names: list[str]) -> None:
    # The lock files are complete, so pip need not look at dependencies.
    command = [str(PYTHON), "-I", "-m", "pip", "install", "--require-hashes", "--no-deps"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    for name in names:
        command += ["-r", str(ROOT / name)]
    begun = time.monotonic()
    with LOG.open("w") as log:
        pip = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            _show_progress(pip, names, begun)
        except BaseException:
            pip.terminate()
            pip.wait()
            raise
    if pip.returncode != 0:
        why = explain(LOG.read_text(errors="replace"))
        raise InstallError(f"the packages could not be installed: {why} (pip's log: {LOG})")
    _say(f"{_clear()}  ✓ Python packages {time.monotonic() - begun:39.1f} s")


def _show_progress(pip: subprocess.Popen[bytes], names: list[str], begun: float) -> None:
    """A line that moves on a terminal; elsewhere a line at the start and every ten seconds."""
    total = sum(len(re.findall(r"^[\w.-]+==", (ROOT / name).read_text(), re.M)) for name in names)
    next_line_s = 0.0
    while pip.poll() is None:
        if os.getppid() != PARENT:
            raise InstallError("what started the installation is gone; it is broken off")
        elapsed_s = time.monotonic() - begun
        said = LOG.read_text(errors="replace")
        got = len(re.findall(r"^(?:Collecting|Processing) ", said, re.MULTILINE))
        installing = "installing" if "Installing collected" in said else ""
        text = f"  … Python packages: {installing or f'{got} of about {total}'}, {elapsed_s:.0f} s"
        if sys.stdout.isatty():
            _say(f"{_clear()}{text}", end="")
        elif elapsed_s >= next_line_s:
            _say(text)
            next_line_s += 10.0
        try:
            pip.wait(timeout=0.25)
        except subprocess.TimeoutExpired:
            continue


def explain(log: str) -> str:
    """pip's failure, read from its output, as one sentence."""
    version = platform.python_version()
    unbuilt = re.findall(r"(?:Failed building wheel for|Failed to build) '?([\w.-]+)", log)
    if unbuilt:
        what = f"{unbuilt[0]} has no ready-made wheel for Python {version} on this machine"
        if any(shutil.which(compiler) for compiler in ("cc", "gcc", "clang")):
            return f"{what}, and building it failed: {_last_line(log)}"
        return (
            f"{what}, and there is no C compiler to build it: install one (Debian and Ubuntu: apt "
            "install build-essential python3-dev), or name a Python that has wheels: "
            "make dev PYTHON=/path/to/python3.11"
        )
    for pattern, sentence in REASONS.items():
        if re.search(pattern, log, re.IGNORECASE):
            return sentence.format(version=version)
    return _last_line(log)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no reason given"])[-1]


def _clear() -> str:
    return "\r\x1b[K" if sys.stdout.isatty() else ""


def _say(text: str, end: str = "\n") -> None:
    sys.stdout.write(text + end)
    sys.stdout.flush()


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")
    os.environ.pop("PYTHONHOME", None)
    sys.exit(main(sys.argv[1:]))
