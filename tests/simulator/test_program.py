from __future__ import annotations

import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from proxmoxer import ProxmoxAPI

from pve_simulator import cli
from pve_simulator.testing import SimulatorThread
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
SECRET = "deadbeef-0000-4000-8000-000000000000"


@contextmanager
def program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running program and its URL; ended if the test did not."""
    command = [sys.executable, "-m", "pve_simulator", "--port", "0", *arguments]
    command += ["--token", f"root@pam!izvor={SECRET}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("simulator ready https://127.0.0.1:"), line
        yield process, line.split()[2]
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def connect(url: str, ca_file: Path) -> Any:
    port = int(url.rsplit(":", 1)[1])
    return ProxmoxAPI(
        "127.0.0.1",
        port=port,
        user="root@pam",
        token_name="izvor",
        token_value=SECRET,
        verify_ssl=str(ca_file),
    )


def run(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "pve_simulator", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("--port", "99999"),
        ("--port", "many"),
        ("--speed", "0"),
        ("--vms", "-1"),
        ("--nodes", ","),
        ("--nodes", "a,a"),
        ("--nodes", "under_score"),
        ("--token", "nonsense"),
        ("--pve-version", "3"),
        ("--clock", "yesterday"),
        ("--clock", "1969-12-31"),
        ("--nosuch",),
    ],
)
def test_a_bad_argument_gives_one_sentence(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
):
    assert cli.main(list(arguments)) == 2
    said = capsys.readouterr()
    assert said.err.startswith("pve_simulator: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_a_bad_argument_ends_the_program_with_its_code():
    assert run("--nosuch") == (2, "pve_simulator: unrecognized arguments: --nosuch\n")


def test_a_taken_port_gives_one_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, text = run("--port", str(taken.getsockname()[1]))
    assert code == 2
    assert "cannot serve on 127.0.0.1:" in text
    assert text.count("\n") == 1


def test_a_damaged_state_gives_one_sentence(tmp_path: Path):
    (tmp_path / "world.json").write_text("{")
    code, text = run("--port", "0", "--state", str(tmp_path))
    assert code == 2
    assert "is damaged" in text


def test_a_state_folder_in_use_gives_one_sentence(tmp_path: Path):
    with program("--state", str(tmp_path)):
        code, text = run("--port", "0", "--state", str(tmp_path))
    assert code == 2
    assert text == f"pve_simulator: another simulator uses the state folder {tmp_path}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_a_second(number: signal.Signals):
    with program() as (process, _):
        began = time.monotonic()
        process.send_signal(number)
        assert process.wait(5) == 0
        assert time.monotonic() - began < 2.0  # under one when nothing else runs


def test_the_ready_file_holds_the_url(tmp_path: Path):
    ready = tmp_path / "ready"
    with program("--ready-file", str(ready)) as (_, url):
        assert ready.read_text() == f"{url}\n"


def test_everything_survives_a_kill(tmp_path: Path):
    arguments = ("--state", str(tmp_path), "--speed", "20")
    with program(*arguments) as (process, url):
        api = connect(url, tmp_path / "ca.pem")
        api.nodes("pve").qemu(100).config.put(description="kept", tags="a;b")
        task = api.nodes("pve").qemu(9000).clone.post(newid=200)
        wait_for_end(api, task)
        api.nodes("pve").qemu(9000).clone.post(newid=201, full=1, bwlimit=1)
        wait_until(lambda: "201" in (tmp_path / "world.json").read_text())
        ca = (tmp_path / "ca.pem").read_bytes()
        time.sleep(0.5)  # the debounce: what is younger may be lost, and is in a real crash too
        process.kill()
        process.wait()
    with program(*arguments) as (_, url):
        api = connect(url, tmp_path / "ca.pem")
        assert (tmp_path / "ca.pem").read_bytes() == ca
        config = api.nodes("pve").qemu(100).config.get()
        assert (config["description"], config["tags"]) == ("kept", "a;b")
        assert api.nodes("pve").qemu(200).status.current.get()["status"] == "stopped"
        assert api.nodes("pve").tasks(task).status.get()["exitstatus"] == "OK"
        assert api.nodes("pve").qemu(201).config.get()["lock"] == "clone"
        ends = {row["id"]: row["status"] for row in api.nodes("pve").tasks.get(limit=1)}
        assert ends == {"9000": "unexpected status"}


def wait_for_end(api: Any, upid: str) -> None:
    node = upid.split(":")[1]
    wait_until(lambda: api.nodes(node).tasks(upid).status.get()["status"] == "stopped")


def test_the_certificate_is_good_for_the_node_names(tmp_path: Path):
    with program("--state", str(tmp_path), "--nodes", "alpha,beta") as (_, url):
        tls = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        port = int(url.rsplit(":", 1)[1])
        for name in ("127.0.0.1", "localhost", "alpha", "beta"):
            with (
                socket.create_connection(("127.0.0.1", port)) as plain,
                tls.wrap_socket(plain, server_hostname=name) as wrapped,
            ):
                assert wrapped.version() is not None


def test_proxmoxer_makes_a_vm_with_a_password_login():
    with SimulatorThread(speed=20) as sim:
        api: Any = ProxmoxAPI(
            "127.0.0.1",
            port=sim.port,
            user="root@pam",
            password=sim.password,
            verify_ssl=str(sim.ca_file),
        )
        vmid = api.cluster.nextid.get()
        qemu = api.nodes("pve").qemu
        wait_for_end(api, qemu(9000).clone.post(newid=vmid, name="made", full=1))
        qemu(vmid).config.put(cores=2, memory=2048, ciuser="admin", ipconfig0="ip=dhcp")
        wait_for_end(api, qemu(vmid).resize.put(disk="scsi0", size="40G"))
        wait_for_end(api, qemu(vmid).status.start.post())
        assert qemu(vmid).status.current.get()["status"] == "running"
        wait_for_end(api, qemu(vmid).status.stop.post())
        wait_for_end(api, qemu(vmid).delete(purge=1))
        assert vmid not in {str(row["vmid"]) for row in qemu.get()}


def test_its_clock_starts_when_it_is_told(tmp_path: Path):
    with program("--state", str(tmp_path), "--clock", "2031-05-06T07:08:09Z") as (_, url):
        now = connect(url, tmp_path / "ca.pem").nodes("pve").time.get()["time"]
        assert 0 <= now - datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC).timestamp() < 60


def test_two_programs_do_not_disturb_each_other():
    with program() as (_, first), program() as (_, second):
        assert first != second


def test_it_can_be_asked_over_plain_urllib(tmp_path: Path):
    with program("--state", str(tmp_path)) as (_, url):
        tls = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        with urllib.request.urlopen(f"{url}/api2/json/access/domains", context=tls) as answer:
            assert answer.status == 200
