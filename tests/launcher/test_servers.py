"""The embedded Postgres and Valkey, really run, as the current user."""

import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import psycopg
import pytest
import redis

from tests.launcher.conftest import Launch, Started, processes_in
from tests.waiting import wait_until

CHECK = """
import os, psycopg, redis, sys
with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
    sql = "select current_setting('fsync'), current_setting('server_encoding')"
    print(connection.execute(sql).fetchone())
print(redis.Redis.from_url(os.environ["REDIS_URL"]).ping())
sys.exit(7)
"""


def url(started: Started, name: str) -> str:
    found: list[str] = re.findall(rf"^{name}=(.*)$", started.output, re.MULTILINE)
    return found[-1]


def query(started: Started, sql: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url(started, "DATABASE_URL")) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def services(launch: Launch, folder: Path):
    """Start `launcher services` on one and the same state folder."""

    def start_services(state: Path = folder / ".izvor", **env: str) -> Started:
        started = launch("services", "--state", str(state), **env)
        started.wait_for("REDIS_URL=")
        return started

    return start_services


def test_run_gives_a_command_both_servers_and_returns_its_exit_code(launch, folder):
    started = launch("run", "--", sys.executable, "-c", CHECK, TMPDIR=str(folder))
    assert started.process.wait(timeout=60) == 7
    assert started.output == "('off', 'UTF8')\nTrue\n"
    assert not list(folder.glob("izvor-run-*"))


@pytest.mark.services
def test_run_starts_nothing_for_servers_that_the_environment_names(launch, folder):
    show = "import os; print(os.environ['DATABASE_URL'], os.environ['REDIS_URL'])"
    given = {name: os.environ[name] for name in ("DATABASE_URL", "REDIS_URL")}
    started = launch("run", "--state", ".izvor", "--", sys.executable, "-c", show, **given)
    assert started.process.wait(timeout=60) == 0
    assert started.output == f"{given['DATABASE_URL']} {given['REDIS_URL']}\n"
    assert not (folder / ".izvor" / "postgres").exists()
    assert not (folder / ".izvor" / "valkey").exists()


def test_run_says_when_the_command_does_not_exist(launch, folder):
    started = launch("run", "--", "no-such-command", TMPDIR=str(folder))
    assert started.process.wait(timeout=60) == 127
    assert started.output == "cannot run no-such-command: No such file or directory\n"


def test_run_that_is_killed_leaves_nothing_running(launch, folder):
    script = "import time; print('go', flush=True); time.sleep(600)"
    command = (sys.executable, "-c", script)
    started = launch("run", "--", *command, TMPDIR=str(folder))
    started.wait_for("go")
    assert len(processes_in(folder)) > 5
    started.process.kill()
    wait_until(lambda: not processes_in(folder), seconds=10)


def test_run_passes_a_stop_on_and_ends_its_servers(launch, folder):
    script = "import time; print('go', flush=True); time.sleep(600)"
    started = launch("run", "--", sys.executable, "-c", script, TMPDIR=str(folder))
    started.wait_for("go")
    assert started.signal_and_time(signal.SIGTERM) < 3.0
    assert started.process.returncode == 128 + signal.SIGTERM
    assert not list(folder.glob("izvor-run-*"))


def test_data_is_safe_and_survives_a_stop(services):
    started = services()
    assert query(started, "select current_setting('fsync')") == [("on",)]
    query(started, "create table kept as select 1 as one")
    redis.Redis.from_url(url(started, "REDIS_URL")).set("kept", "yes")
    assert started.signal_and_time(signal.SIGINT) < 3.0
    assert started.process.returncode == 0
    again = services()
    assert query(again, "select * from kept") == [(1,)]
    assert redis.Redis.from_url(url(again, "REDIS_URL")).get("kept") == b"yes"


def test_data_survives_kill_9_with_connections_open(services, folder):
    started = services()
    with psycopg.connect(url(started, "DATABASE_URL"), autocommit=True) as open_connection:
        open_connection.execute("create table kept as select 1 as one")
        started.process.kill()
        started.process.wait()
        wait_until(lambda: not processes_in(folder), seconds=10)
    assert query(services(), "select * from kept") == [(1,)]


def test_a_postgres_without_guard_is_ended_before_the_next_one_starts(services, folder):
    """Everything but Postgres itself is killed with -9: the worst leftover there can be."""
    started = services()
    postmaster = int((folder / ".izvor" / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(started.process.pid, signal.SIGSTOP)
    for pid, line in processes_in(folder).items():
        if "guard.py" in line:
            os.kill(pid, signal.SIGKILL)
    started.process.kill()
    started.process.wait()
    again = services()
    assert query(again, "select 1") == [(1,)]
    assert postmaster not in processes_in(folder)


def test_a_postmaster_pid_that_another_program_has_now_does_not_matter(services, folder):
    services().signal_and_time(signal.SIGINT)
    (folder / ".izvor" / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n")
    assert query(services(), "select 1") == [(1,)]


def test_a_killed_postgres_comes_back(services, folder):
    started = services()
    query(started, "create table kept as select 1 as one")
    postmaster = int((folder / ".izvor" / "postgres" / "postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    started.wait_for("postgres runs again", timeout_s=30)
    assert query(started, "select * from kept") == [(1,)]


@pytest.mark.parametrize("damaged", ["PG_VERSION", "global/pg_control"])
def test_damaged_postgres_data_is_one_sentence(services, launch, folder, damaged):
    services().signal_and_time(signal.SIGINT)
    (folder / ".izvor" / "postgres" / damaged).unlink()
    started = launch("services", "--state", str(folder / ".izvor"))
    assert started.process.wait(timeout=60) == 1
    assert "`make clean` starts afresh" in started.output
    assert "Traceback" not in started.output
    assert not processes_in(folder)


def test_data_of_another_postgres_version_is_one_sentence(services, launch, folder):
    services().signal_and_time(signal.SIGINT)
    (folder / ".izvor" / "postgres" / "PG_VERSION").write_text("12\n")
    started = launch("services", "--state", str(folder / ".izvor"))
    assert started.process.wait(timeout=60) == 1
    assert "was made by Postgres 12" in started.output


def test_a_half_made_data_folder_is_made_anew(services, folder):
    draft = folder / ".izvor" / "postgres.new"
    services().signal_and_time(signal.SIGINT)
    shutil.move(folder / ".izvor" / "postgres", draft)
    (draft / "global" / "pg_control").unlink()
    assert query(services(), "select 1") == [(1,)]
    assert not draft.exists()


def test_two_folders_run_at_once_and_one_folder_does_not(services, launch, folder):
    one, other = services(folder / "one"), services(folder / "other")
    assert url(one, "DATABASE_URL") != url(other, "DATABASE_URL")
    assert query(one, "select 1") == query(other, "select 1") == [(1,)]
    twice = launch("services", "--state", str(folder / "one"))
    begun = time.monotonic()
    assert twice.process.wait(timeout=30) == 1
    assert time.monotonic() - begun < 5
    assert f"already runs on {folder / 'one'} (process {one.process.pid})" in twice.output


def test_a_comma_or_a_percent_sign_in_the_path_is_no_matter(services, folder):
    started = services(folder / "50%, or more")
    assert query(started, "select 1") == [(1,)]
    assert redis.Redis.from_url(url(started, "REDIS_URL")).ping()
