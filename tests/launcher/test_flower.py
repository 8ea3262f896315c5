"""`make flower`: Celery's monitor finds the broker of what runs, and shows the right tasks."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from launcher.errors import LaunchError
from launcher.flower import flower_env
from launcher.state import open_state
from launcher.supervisor import Supervisor
from launcher.valkey import embedded_valkey
from tests.launcher.conftest import ROOT, clean_env, free_port
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)


def test_where_nothing_runs_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv("REDIS_URL", raising=False)
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(LaunchError, match="start `make dev` first"):
            flower_env(folder)


def test_a_broker_that_the_environment_names_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://broker.example.com:6379/3")
    assert flower_env(tmp_path)["REDIS_URL"] == "redis://broker.example.com:6379/3"


def test_all_that_the_clock_starts_is_quiet():
    from izvor_project.celery import app

    app.loader.import_default_modules()
    ticks = {entry["task"] for entry in app.conf.beat_schedule.values()}
    others = {"operations.poll", "inventory.cycle", "events.deliver"}
    assert {name for name in ticks | others if app.tasks[name].send_events} == set()
    assert app.tasks["operations.turn"].send_events


@pytest.mark.slow
def test_it_shows_workers_and_turns_by_name_but_no_tick(tmp_path: Path):
    state = open_state(tmp_path / "state")
    port = free_port()
    base = clean_env(DJANGO_SETTINGS_MODULE="izvor_project.settings")
    try:
        with Supervisor(state) as supervisor:
            valkey, url = embedded_valkey(state, base, throwaway=True)
            supervisor.add(valkey)
            children = []
            needed = {"IZVOR_SECRET_KEY": "x", "DATABASE_URL": "postgres://unused@localhost/unused"}
            env = {**base, **needed, "REDIS_URL": url}
            worker = ["-m", "celery", "-A", "izvor_project", "worker", "--pool", "threads"]
            children.append(started([*worker, "-c", "2", "-n", "shown@localhost"], env))
            flower = ["-m", "launcher", "flower", "--state", str(tmp_path / "state")]
            api = {"IZVOR_FLOWER_PORT": str(port), "FLOWER_UNAUTHENTICATED_API": "true"}
            children.append(started(flower, {**base, **api}))
            try:
                look_at_flower(f"http://127.0.0.1:{port}", env)
            finally:
                for child in children:
                    child.terminate()
                    child.wait(30)
    finally:
        state.close()


def look_at_flower(url: str, env: dict[str, str]) -> None:
    wait_until(
        lambda: "shown@localhost" in text_of(f"{url}/workers"),
        seconds=60,
        what="the worker",
    )
    send = (
        "from izvor_project.celery import app\n"
        "app.send_task('operations.sweep', queue='turns')\n"
        "app.send_task('operations.turn', args=(0,), queue='turns',"
        " shadow='create_vm 105: clone')\n"
    )
    subprocess.run([sys.executable, "-c", send], env=env, cwd=ROOT, check=True, timeout=60)
    tasks = lambda: json.loads(text_of(f"{url}/api/tasks") or "{}")  # noqa: E731
    wait_until(tasks, "the task")
    assert {task["name"] for task in tasks().values()} == {"create_vm 105: clone"}


def started(command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command],
        env=env,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def text_of(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
