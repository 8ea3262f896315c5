"""Installing: what each failure says, and that one which was broken off is noticed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from launcher.install import explain
from tests.launcher.conftest import ROOT, Start, Started, clean_env, processes_in
from tests.waiting import wait_until

WITH_PYTHON = ROOT / "launcher" / "with_python.sh"
BUILD_FAILED = """\
Building wheels for collected packages: needs-c
  error: subprocess-exited-with-error
      error: command 'gcc' failed: No such file or directory
  ERROR: Failed building wheel for needs-c
Failed to build needs-c
ERROR: Could not build wheels for needs-c, which is required to install pyproject.toml projects
"""


def make_interpreter(folder: Path, name: str, *, version: str) -> Path:
    """A command that answers as a Python of that version would."""
    file = folder / name
    file.write_text(f'#!/bin/sh\ncase "$2" in *platform*) echo {version};; *) exit 1;; esac\n')
    file.chmod(0o755)
    return file


def run_with_python(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run with_python.sh where nothing but `folder` is in the path."""
    return subprocess.run(
        ["/bin/sh", str(WITH_PYTHON), *arguments],
        env={"PATH": str(folder), **env},
        capture_output=True,
        text=True,
    )


def test_an_old_python_is_one_sentence(tmp_path):
    make_interpreter(tmp_path, "python3", version="3.9.2")
    done = run_with_python(tmp_path, "-c", "")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer is needed and was not found (python3 is 3.9.2)" in done.stderr


def test_no_python_at_all_is_one_sentence(tmp_path):
    done = run_with_python(tmp_path, "-c", "")
    assert done.returncode == 1
    assert done.stderr.startswith("izvor: Python 3.11 or newer is needed and was not found.")


def test_a_newer_python_beside_an_old_one_is_found(tmp_path):
    make_interpreter(tmp_path, "python3", version="3.9.2")
    (tmp_path / "python3.11").symlink_to(sys.executable)
    done = run_with_python(tmp_path, "-c", "print('found')")
    assert done.stdout == "found\n"


def test_the_python_that_is_named_comes_first(tmp_path):
    named = tmp_path / "my python"
    named.symlink_to(sys.executable)
    done = run_with_python(
        tmp_path, "-c", "import sys; print(sys.argv[1])", "a b", PYTHON=str(named)
    )
    assert done.stdout == "a b\n"


def test_a_missing_compiler_is_one_sentence_that_names_the_package(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    sentence = explain(BUILD_FAILED)
    assert sentence.startswith("needs-c has no ready-made wheel for Python 3.")
    assert "there is no C compiler to build it" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: No matching distribution found for idna==3.20\n",
            "the package index could not be reached",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n",
            "a downloaded package is not the one that the lock file names",
        ),
        (
            "ERROR: No matching distribution found for idna==99\n",
            "the package index has no build of a package for Python 3.",
        ),
        (
            "ERROR: Could not install packages: [Errno 28] No space left on device",
            "the disk is full",
        ),
        ("one line\nERROR: something new\nlast line\n", "ERROR: something new"),
    ],
)
def test_pips_failures_are_sentences(log, sentence):
    assert explain(log).startswith(sentence)


# From here on with a real pip and a package of our own, so that no index is needed.


@pytest.fixture
def tree(folder: Path) -> Path:
    """A project whose lock file names one small wheel that lies beside it."""
    (folder / "launcher").mkdir()
    (folder / "launcher" / "install.py").write_bytes(
        (ROOT / "launcher" / "install.py").read_bytes()
    )
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "requirements.txt").write_text(f"./{wheel.name} --hash=sha256:{digest}\n")
    return folder


@pytest.fixture
def install(start: Start, tree: Path):
    def start_install() -> Started:
        argv = [sys.executable, str(tree / "launcher" / "install.py"), "requirements.txt"]
        return start(argv, cwd=tree.parent)

    return start_install


def answer(tree: Path) -> str:
    """What the installed package says; its error if it is not whole."""
    asked = subprocess.run(
        [tree / ".venv/bin/python", "-c", "import tiny; print(tiny.answer)"],
        env=clean_env(),
        capture_output=True,
        text=True,
    )
    return asked.stdout + asked.stderr


@pytest.mark.slow
def test_it_installs_once_and_again_when_the_lock_file_changes(install, tree):
    first = install()
    assert first.process.wait(timeout=90) == 0
    assert "✓ Python packages" in first.output
    assert answer(tree) == "42\n"
    second = install()
    assert second.process.wait(timeout=30) == 0
    assert second.output == ""
    lock = tree / "requirements.txt"
    lock.write_text(f"# changed\n{lock.read_text()}")
    third = install()
    assert third.process.wait(timeout=60) == 0
    assert "✓ Python packages" in third.output
    assert "virtual environment" not in third.output


@pytest.mark.slow
def test_an_installation_that_was_killed_is_noticed_and_done_again(install, tree):
    assert install().process.wait(timeout=90) == 0
    # As a kill in the middle leaves it: pip itself would take this package for an installed one.
    (package,) = (tree / ".venv").glob("lib/*/site-packages/tiny.py")
    package.unlink()
    (tree / ".venv/izvor-installing").touch()
    assert "No module named 'tiny'" in answer(tree)
    assert install().process.wait(timeout=90) == 0
    assert answer(tree) == "42\n"


@pytest.mark.slow
def test_a_kill_while_the_environment_is_made_is_noticed(install, tree):
    started = install()
    wait_until(lambda: (tree / ".venv/izvor-installing").exists())
    os.killpg(started.process.pid, signal.SIGKILL)
    started.process.wait()
    assert install().process.wait(timeout=90) == 0
    assert answer(tree) == "42\n"


@pytest.mark.slow
def test_a_wrong_hash_installs_nothing_and_is_one_sentence(install, tree):
    lock = tree / "requirements.txt"
    lock.write_text(lock.read_text().split("sha256:")[0] + f"sha256:{'0' * 64}\n")
    started = install()
    assert started.process.wait(timeout=90) == 1
    assert "izvor: the packages could not be installed: a downloaded package" in started.output
    assert "Traceback" not in started.output
    assert not (tree / ".venv/izvor-installed.json").exists()


def test_a_folder_that_is_no_environment_is_left_alone(install, tree):
    (tree / ".venv").mkdir()
    (tree / ".venv" / "notes.txt").touch()
    started = install()
    assert started.process.wait(timeout=30) == 1
    assert "is not a virtual environment: move it away" in started.output
    assert (tree / ".venv" / "notes.txt").exists()


def test_a_python_without_venv_is_one_sentence(tree, start):
    """Debian splits part of the module off; this is what the rest says then."""
    (tree / "hidden").mkdir()
    says = (
        "The virtual environment was not created successfully because ensurepip is not available."
    )
    (tree / "hidden" / "venv.py").write_text(f"import sys; print({says!r}); sys.exit(1)\n")
    argv = [sys.executable, str(tree / "launcher" / "install.py"), "requirements.txt"]
    started = start(argv, cwd=tree, PYTHONPATH=str(tree / "hidden"))
    assert started.process.wait(timeout=60) == 1
    assert "lacks its venv module: install it" in started.output
    assert "Traceback" not in started.output
    assert not (tree / ".venv").exists()


@pytest.fixture
def environment(tree: Path) -> Path:
    """A virtual environment, quickly: its pip is one that never ends."""
    venv = tree / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    pip = next(venv.glob("lib/*/site-packages")) / "pip.py"
    pip.write_text("import time\nif __name__ == '__main__': time.sleep(600)\n")
    return venv


def test_an_installation_ends_with_the_make_that_wants_it(tree, environment, start):
    script = "import subprocess, sys; subprocess.run(sys.argv[1:])"
    install = [sys.executable, str(tree / "launcher" / "install.py"), "requirements.txt"]
    make = start([sys.executable, "-c", script, *install], cwd=tree)
    wait_until(lambda: any("-m pip install" in line for line in processes_in(tree).values()))
    make.process.kill()
    make.process.wait()
    wait_until(lambda: not processes_in(tree), seconds=5)
    assert (environment / "izvor-installing").exists()


def test_the_stamp_is_what_makes_a_start_quick(tree, environment, install):
    """No pip runs when the stamp fits: a lock file that pip could not even read goes unread."""
    version = subprocess.run(
        [environment / "bin/python", "-c", "import platform; print(platform.python_version())"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    lock = tree / "requirements.txt"
    lock.write_text("!!!")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    stamp = {"python": version, "files": {lock.name: digest}}
    (environment / "izvor-installed.json").write_text(json.dumps(stamp))
    started = install()
    assert started.process.wait(timeout=30) == 0
    assert started.output == ""
