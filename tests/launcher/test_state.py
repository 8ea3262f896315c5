"""The state folder: private, locked, and clear about what is wrong with it."""

import os
import shutil
import stat
from pathlib import Path

import pytest

from launcher.errors import LaunchError
from launcher.state import (
    MAX_SOCKET_PATH_BYTES,
    in_use,
    open_state,
    open_temporary_state,
    remove_state,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a b" / ".izvor"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_private(path):
    state = open_state(path)
    state.secrets()
    assert mode(path) == 0o700
    assert mode(state.folder("simulator")) == 0o700
    assert mode(path / "secrets.json") == 0o600
    state.close()


def test_secrets_are_made_once_and_kept(path):
    state = open_state(path)
    first = state.secrets()
    state.close()
    state = open_state(path)
    assert state.secrets() == first
    assert len(first.secret_key) >= 50
    assert first.admin_password not in repr(first)
    state.close()


def test_damaged_secrets_are_one_sentence(path):
    state = open_state(path)
    (path / "secrets.json").write_text("{")
    with pytest.raises(LaunchError, match=r"secrets\.json is damaged: `make clean`"):
        state.secrets()
    state.close()


def test_it_cannot_be_opened_twice(path):
    state = open_state(path)
    assert in_use(path)
    with pytest.raises(LaunchError, match=f"already runs on .* \\(process {os.getpid()}\\)"):
        open_state(path)
    state.close()
    assert not in_use(path)
    open_state(path).close()


def test_a_file_in_its_place_is_one_sentence(path):
    path.parent.mkdir()
    path.write_text("")
    with pytest.raises(LaunchError, match="is not a folder"):
        open_state(path)


def test_a_folder_with_foreign_files_is_left_alone(path):
    path.mkdir(parents=True)
    (path / "thesis.odt").touch()
    for use in (open_state, remove_state):
        with pytest.raises(LaunchError, match="holds files that are not Izvor's"):
            use(path)
    assert (path / "thesis.odt").exists()


def test_a_folder_under_a_file_is_one_sentence(path):
    path.parent.touch()
    with pytest.raises(LaunchError, match=r"Cannot use .* as state folder: Not a directory"):
        open_state(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_another_users_folder_is_one_sentence(path):
    path.mkdir(parents=True)
    os.chown(path, 12345, 12345)
    with pytest.raises(LaunchError, match="belongs to another user \\(uid 12345\\)"):
        open_state(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_one_sentence(path):
    path.mkdir(parents=True)
    path.chmod(0o500)
    with pytest.raises(LaunchError, match="Cannot write into"):
        open_state(path)


def test_sockets_live_in_the_folder_when_its_path_is_short_enough(path):
    short = Path("/tmp") / f"izvor-test-{os.getpid()}"
    state = open_state(short)
    assert state.sockets() == short
    state.close()
    remove_state(short)


@pytest.mark.parametrize("name", ["x" * 100, "a name", "a,b", "née", "100%"])
def test_sockets_of_another_path_live_in_a_short_private_folder_that_goes_with_it(
    name, monkeypatch
):
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    # Short, so that it is the name alone which counts.
    above = Path("/tmp") / f"izvor-test-{os.getpid()}"
    state = open_state(above / name)
    sockets = state.sockets()
    (sockets / "valkey.sock").touch()
    assert len(os.fsencode(sockets)) < MAX_SOCKET_PATH_BYTES - 20
    assert mode(sockets) == 0o700
    assert sockets.parent == above.parent
    state.close()
    assert not sockets.exists()
    shutil.rmtree(above)


def test_two_long_paths_do_not_share_their_sockets(tmp_path):
    one, other = (open_state(tmp_path / (letter * 100)) for letter in "xy")
    assert one.sockets() != other.sockets()
    one.close()
    other.close()


def test_a_temporary_state_clears_away_what_a_killed_run_left(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left, running = open_temporary_state(), open_temporary_state()
    left.close()
    fresh = open_temporary_state()
    assert not left.path.exists()
    assert running.path.exists()
    running.close()
    fresh.close()


def test_remove_refuses_while_something_runs(path):
    state = open_state(path)
    with pytest.raises(LaunchError, match="already runs"):
        remove_state(path)
    state.close()
    remove_state(path)
    assert not path.exists()
    remove_state(path)
