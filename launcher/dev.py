"""`launcher dev`: all of Izvor on this machine, watched until Ctrl-C."""

from __future__ import annotations

import ipaddress
import os
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from launcher.children import Child
from launcher.console import say, stage
from launcher.errors import LaunchError, StopRequested
from launcher.ports import is_free, read_port, remembered_port
from launcher.probes import http_answers, tls_answers
from launcher.services import ROOT, plan_services
from launcher.state import StateFolder, open_state
from launcher.supervisor import Supervisor

SIMULATOR_HOST = "127.0.0.1"
TOKEN_ID = "root@pam!izvor"  # noqa: S105  (its name, not its secret)


@dataclass(frozen=True)
class Address:
    """Where the web server listens, and how it is reached from this machine."""

    bind: str
    port: int

    @property
    def host(self) -> str:
        """A host to connect to: a wildcard is no address."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)  # noqa: S104

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def run_dev(*, state_path: Path, follow_parent: bool) -> int:
    """Start everything in order, say where it is, keep it alive. Returns 0 after a wished stop."""
    begun = time.monotonic()
    address = read_address(os.environ)
    say(f"Izvor starts; its state is in {state_path}")
    try:
        with closing(open_state(state_path, say=say)) as state:
            if not is_free(address.bind, address.port):
                raise LaunchError(
                    f"Port {address.port} on {address.bind} is in use: stop what listens there, or "
                    f"choose another port, for example IZVOR_PORT={address.port + 1}."
                )
            with Supervisor(state, follow_parent=follow_parent) as supervisor:
                env = _start_all(supervisor, state, address)
                say(_summary(address, env, seconds=time.monotonic() - begun))
                supervisor.watch()
    except (StopRequested, KeyboardInterrupt):
        # The latter until the supervisor listens for signals: nothing runs yet.
        say("\nIzvor has stopped.")
    return 0


def read_address(environ: Mapping[str, str]) -> Address:
    """IZVOR_BIND and IZVOR_PORT. Raises LaunchError."""
    bind = environ.get("IZVOR_BIND") or "127.0.0.1"
    port = read_port("IZVOR_PORT", environ.get("IZVOR_PORT") or "8082")
    return Address(bind=bind.strip("[]"), port=port)


def _start_all(supervisor: Supervisor, state: StateFolder, address: Address) -> dict[str, str]:
    with stage("state folder"):
        services = plan_services(state, os.environ)
    env = {**services.env, **izvor_env(state, services.env, address)}
    children = list(services.children)
    if not env.get("PROXMOX_URL"):
        simulator, proxmox = plan_simulator(state, services.env)
        env.update(proxmox)
        children.append(simulator)
    with stage(", ".join(child.name for child in children) or "no server of our own"):
        supervisor.add(*children)
    with stage("migrations, admin login, cluster"):
        supervisor.run(_manage("prepare", "prepare", env))
    with stage("worker, web"):
        supervisor.add(plan_worker(state, env), plan_web(env, address))
    return env


def izvor_env(state: StateFolder, environ: Mapping[str, str], address: Address) -> dict[str, str]:
    """What `make dev` decides unless the person did."""
    secrets = state.secrets()
    chosen = {
        "IZVOR_BIND": address.bind,
        "IZVOR_PORT": str(address.port),
        "IZVOR_SECRET_KEY": secrets.secret_key,
        "IZVOR_ADMIN_USERNAME": "admin",
        "IZVOR_ADMIN_PASSWORD": secrets.admin_password,
        "PYTHONUNBUFFERED": "1",
    }
    if _is_loopback(address.bind):
        # So that the README's plain curl lines work; settings refuse it on any other address.
        chosen["IZVOR_AUTH"] = "none"
        # And so that a receiver on this machine can be told of events.
        chosen["IZVOR_WEBHOOK_ALLOW"] = "127.0.0.0/8,::1"
    return {name: environ.get(name) or value for name, value in chosen.items()}


def _is_loopback(bind: str) -> bool:
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def plan_simulator(state: StateFolder, environ: Mapping[str, str]) -> tuple[Child, dict[str, str]]:
    """The simulated cluster, and the PROXMOX_* variables that lead to it."""
    secrets = state.secrets()
    folder = state.folder("simulator")
    ca_file = folder / "ca.pem"
    port = remembered_port(state.path / "simulator.port", host=SIMULATOR_HOST, first=8006)
    command = [
        *(sys.executable, "-m", "pve_simulator", "--host", SIMULATOR_HOST, "--port", str(port)),
        *("--state", str(folder)),
    ]
    child = Child(
        name="simulator",
        argv=command,
        # In the environment, since anyone can read a command line.
        env={
            **environ,
            "PVE_SIMULATOR_TOKEN": f"{TOKEN_ID}={secrets.simulator_token}",
            "PVE_SIMULATOR_PASSWORD": secrets.simulator_password,
            "PYTHONUNBUFFERED": "1",
        },
        cwd=ROOT,
        ready=lambda: tls_answers(SIMULATOR_HOST, port, ca_file=ca_file),
    )
    return child, {
        "PROXMOX_URL": f"https://{SIMULATOR_HOST}:{port}",
        "PROXMOX_USER": "root@pam",
        "PROXMOX_PASSWORD": "",
        "PROXMOX_TOKEN_ID": TOKEN_ID,
        "PROXMOX_TOKEN_SECRET": secrets.simulator_token,
        "PROXMOX_NODE": "",
        "PROXMOX_INSECURE": "false",
        "PROXMOX_CA_FILE": str(ca_file),
        "PROXMOX_FINGERPRINT": "",
        "IZVOR_PROXMOX_KIND": "simulator",
    }


def plan_worker(state: StateFolder, env: Mapping[str, str]) -> Child:
    """Celery with its clock inside. Told twice to stop it drops what it does: rows remember it."""
    schedule = state.folder("worker") / "celerybeat-schedule"
    command = [
        *(sys.executable, "-m", "celery", "-A", "izvor_project", "worker", "--beat"),
        *("-s", str(schedule), "--pool", "threads", "--concurrency", "16", "-l", "INFO"),
        # One worker alone: nobody to greet, which would take a second.
        *("--without-mingle", "--without-gossip"),
    ]
    # Celery logs that it is ready, at a level that may be switched off.
    says_so = env.get("IZVOR_LOG_LEVEL") in (None, "", "INFO", "DEBUG")
    ready_words = " ready." if says_so else ""
    stop = "TERM:0.5,QUIT:0.4"
    return Child("worker", command, env=env, cwd=ROOT, ready_words=ready_words, stop=stop)


def plan_web(env: Mapping[str, str], address: Address) -> Child:
    """The web server; ready when Izvor itself says so."""
    child = _manage("web", "serve", env)
    return Child(
        name=child.name,
        argv=child.argv,
        env=child.env,
        cwd=child.cwd,
        ready=lambda: http_answers(address.host, address.port, "/health/ready"),
    )


def _manage(name: str, command: str, env: Mapping[str, str]) -> Child:
    return Child(name, [sys.executable, str(ROOT / "manage.py"), command], env=env, cwd=ROOT)


def _summary(address: Address, env: Mapping[str, str], *, seconds: float) -> str:
    simulated = env.get("IZVOR_PROXMOX_KIND") == "simulator"
    lines = [
        f"\nIzvor is ready after {seconds:.1f} s.\n",
        f"  API      {address.url}/api/v1",
        f"  Docs     {address.url}/api/docs",
        f"  Admin    {address.url}/admin/",
        f"           user {env['IZVOR_ADMIN_USERNAME']}, password {env['IZVOR_ADMIN_PASSWORD']}",
        f"  Proxmox  {env['PROXMOX_URL']}{' (the simulator)' if simulated else ''}",
        "\nCtrl-C stops everything.",
    ]
    return "\n".join(lines)
