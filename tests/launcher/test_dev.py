"""`launcher dev` with real servers, and stand-ins for Izvor and the simulator (see stub.py)."""

import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from launcher.dev import Address, izvor_env, run_dev
from launcher.state import open_state
from tests.launcher.conftest import Launch, Started, free_port, get, processes_in
from tests.launcher.stub import make_stub_tree
from tests.waiting import wait_until

READY = "Ctrl-C stops everything."


@pytest.fixture
def tree(folder: Path) -> Path:
    make_stub_tree(folder)
    return folder


@pytest.fixture
def dev(launch: Launch, tree: Path):
    def start_dev(**env: str) -> Started:
        return launch("dev", **{"IZVOR_PORT": str(free_port()), **env})

    return start_dev


def given_to(tree: Path, name: str) -> dict[str, Any]:
    """The environment and the argv that this child was started with."""
    given: dict[str, Any] = json.loads((tree / f"{name}.env.json").read_text())
    return given


def test_it_brings_all_up_and_says_where_it_is_and_how_to_log_in(dev, tree):
    port = free_port()
    started = dev(IZVOR_PORT=str(port))
    started.wait_for(READY)
    assert get(port, "/health/ready")[0] == 200
    web, secrets = given_to(tree, "web"), json.loads((tree / ".izvor/secrets.json").read_text())
    for text in (
        f"http://127.0.0.1:{port}/api/v1\n",
        f"http://127.0.0.1:{port}/api/docs\n",
        f"http://127.0.0.1:{port}/admin/\n",
        f"user admin, password {secrets['admin_password']}\n",
        f"{web['PROXMOX_URL']} (the simulator)\n",
    ):
        assert text in started.output
    stages = re.findall(r"✓ (.*?)  +\d", started.output)
    assert stages == [
        "state folder",
        "postgres, valkey, simulator",
        "migrations, admin login, cluster",
        "worker, web",
    ]


def test_it_tells_every_child_what_it_needs(dev, tree):
    dev().wait_for(READY)
    secrets = json.loads((tree / ".izvor/secrets.json").read_text())
    simulator = given_to(tree, "simulator")
    for name in ("prepare", "worker", "web"):
        env = given_to(tree, name)
        assert env["IZVOR_SECRET_KEY"] == secrets["secret_key"]
        assert env["IZVOR_AUTH"] == "none"
        assert env["IZVOR_BIND"] == "127.0.0.1"
        assert env["IZVOR_PROXMOX_KIND"] == "simulator"
        assert env["PROXMOX_TOKEN_SECRET"] == secrets["simulator_token"]
        assert env["PROXMOX_CA_FILE"] == str(tree / ".izvor/simulator/ca.pem")
        assert env["DATABASE_URL"].startswith("postgres://izvor@/izvor?host=%2F")
        assert env["REDIS_URL"].startswith("unix:///")
    assert simulator["PVE_SIMULATOR_TOKEN"] == f"root@pam!izvor={secrets['simulator_token']}"
    assert given_to(tree, "prepare")["IZVOR_ADMIN_PASSWORD"] == secrets["admin_password"]


def test_no_secret_is_on_a_command_line(dev, tree):
    dev().wait_for(READY)
    lines = " ".join(processes_in(tree).values())
    for secret in json.loads((tree / ".izvor/secrets.json").read_text()).values():
        assert secret not in lines


def test_ctrl_c_ends_all_within_three_seconds_and_the_next_start_keeps_everything(dev, tree):
    started = dev()
    started.wait_for(READY)
    first = given_to(tree, "web")
    assert started.signal_and_time(signal.SIGINT) < 3.0
    assert started.process.returncode == 0
    assert "Izvor has stopped." in started.output
    assert not processes_in(tree)
    dev().wait_for(READY)
    second = given_to(tree, "web")
    for name in ("IZVOR_SECRET_KEY", "PROXMOX_URL", "PROXMOX_TOKEN_SECRET", "DATABASE_URL"):
        assert first[name] == second[name]


@pytest.mark.parametrize("said", ["Izvor starts", "✓ state folder", "✓ migrations"])
def test_ctrl_c_while_it_starts_ends_all(dev, tree, said):
    started = dev()
    started.wait_for(said)
    begun = time.monotonic()
    os.killpg(started.process.pid, signal.SIGINT)
    started.process.wait(timeout=20)
    assert time.monotonic() - begun < 4.0  # the data folder's making, at most, and the usual three
    assert started.process.returncode == 0
    assert "Izvor has stopped." in started.output
    assert not processes_in(tree)
    dev().wait_for(READY)


def test_ctrl_c_before_the_supervisor_listens_is_an_ordinary_end(tmp_path, monkeypatch, capsys):
    def interrupted(host: str, port: int) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr("launcher.dev.is_free", interrupted)
    assert run_dev(state_path=tmp_path / "state", follow_parent=False) == 0
    assert "Izvor has stopped." in capsys.readouterr().out
    open_state(tmp_path / "state", say=print).close()


def test_kill_9_leaves_no_orphan_and_the_next_start_is_clean(dev, tree):
    started = dev()
    started.wait_for(READY)
    started.process.kill()
    started.process.wait()
    wait_until(lambda: not processes_in(tree), seconds=10)
    again = dev()
    again.wait_for(READY)
    assert "is started again" not in again.output


def test_a_web_server_that_dies_comes_back(dev, tree):
    port = free_port()
    started = dev(IZVOR_PORT=str(port))
    started.wait_for(READY)
    os.kill(int(get(port, "/health/ready")[1]), signal.SIGKILL)
    started.wait_for("web runs again")
    assert get(port, "/health/ready")[0] == 200


def test_with_servers_of_ones_own_it_starts_none(dev, tree):
    """Neither URL leads anywhere: the stand-ins do not look."""
    own = {
        "DATABASE_URL": "postgres://me:secret@db.invalid/izvor",
        "REDIS_URL": "redis://cache.invalid",
        "PROXMOX_URL": "https://pve.invalid:8006",
        "PROXMOX_PASSWORD": "of the real one",
        "IZVOR_SECRET_KEY": "mine",
        "IZVOR_ADMIN_USERNAME": "boss",
        "IZVOR_AUTH": "token",
    }
    started = dev(**own)
    started.wait_for(READY)
    web = given_to(tree, "web")
    assert {name: web[name] for name in own} == own
    assert "IZVOR_PROXMOX_KIND" not in web
    assert not (tree / "simulator.env.json").exists()
    assert "user boss, password" in started.output
    assert "https://pve.invalid:8006\n" in started.output
    assert not (tree / ".izvor/postgres").exists()
    assert not (tree / ".izvor/valkey").exists()


@pytest.mark.parametrize(
    ("bind", "access"),
    [("127.0.0.1", "none"), ("::1", "none"), ("localhost", "none"), ("0.0.0.0", None)],
)
def test_access_is_open_on_loopback_only(tmp_path, bind, access):
    """Elsewhere Izvor's own default holds: a token."""
    state = open_state(tmp_path / ".izvor")
    env = izvor_env(state, {}, Address(bind=bind, port=8082))
    assert env.get("IZVOR_AUTH") == access
    state.close()


def test_a_port_in_use_is_one_sentence(dev, tree):
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        started = dev(IZVOR_PORT=str(port))
        assert started.process.wait(timeout=30) == 1
    assert f"izvor: Port {port} on 127.0.0.1 is in use" in started.output
    assert f"IZVOR_PORT={port + 1}" in started.output
    assert "Traceback" not in started.output
    assert not processes_in(tree)


@pytest.mark.parametrize("port", ["http", "0", "65536", "-1", "²"])
def test_a_port_that_is_none_is_one_sentence(dev, port):
    started = dev(IZVOR_PORT=port)
    assert started.process.wait(timeout=30) == 1
    assert started.output == (
        f"izvor: IZVOR_PORT must be a port number from 1 to 65535, not {port!r}.\n"
    )


def test_an_address_that_is_not_ours_is_one_sentence(dev):
    started = dev(IZVOR_BIND="192.0.2.1")
    assert started.process.wait(timeout=30) == 1
    assert "izvor: Cannot listen on 192.0.2.1" in started.output
    assert "Traceback" not in started.output


def test_a_failing_prepare_ends_all_with_its_words(dev, tree):
    started = dev(STUB_PREPARE_FAILS="izvor: the cluster is another one.")
    assert started.process.wait(timeout=30) == 1
    assert "prepare failed (exit code 1):\nizvor: the cluster is another one." in started.output
    assert "Traceback" not in started.output
    assert not processes_in(tree)


def test_a_worker_that_cannot_start_is_said_before_anything_is_called_ready(dev, tree):
    started = dev(STUB_WORKER_FAILS="No module named 'packaging'")
    assert started.process.wait(timeout=30) == 1
    assert "worker cannot be started: it ended 5 times in a row." in started.output
    assert started.output.endswith("No module named 'packaging'\n")
    assert READY not in started.output


def test_a_worker_with_its_log_turned_down_is_not_waited_for(dev, tree):
    dev(IZVOR_LOG_LEVEL="ERROR").wait_for(READY)


def test_a_file_in_place_of_the_state_folder_is_one_sentence(dev, tree):
    (tree / ".izvor").touch()
    started = dev()
    assert started.process.wait(timeout=30) == 1
    assert f"izvor: {tree / '.izvor'} is not a folder: move it away" in started.output
    assert "Traceback" not in started.output


def test_two_checkouts_run_at_once_each_with_its_own_simulator(dev, tree, start):
    other = tree / "second"
    other.mkdir()
    make_stub_tree(other)
    # At the same moment, so that both look for a port before either listens.
    one = dev()
    two = start([sys.executable, "-m", "launcher", "dev"], cwd=other, IZVOR_PORT=str(free_port()))
    one.wait_for(READY)
    two.wait_for(READY)
    urls = {given_to(here, "web")["PROXMOX_URL"] for here in (tree, other)}
    assert len(urls) == 2


def test_the_state_folder_can_be_moved_and_used_once_only(dev, tree):
    moved = tree / "elsewhere"
    dev(IZVOR_STATE_DIR=str(moved)).wait_for(READY)
    assert not (tree / ".izvor").exists()
    twice = dev(IZVOR_STATE_DIR=str(moved))
    assert twice.process.wait(timeout=30) == 1
    assert f"izvor: Izvor already runs on {moved}" in twice.output
