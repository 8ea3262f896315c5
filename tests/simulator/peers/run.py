"""Real peers against a simulator of its own: `make peers`.

Runs the playbook of the Ansible collection community.proxmox twice, with an API token and with the
password, and ends what it started. The collection is in an environment of its own, `.venv-peers`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
ANSIBLE = ROOT / ".venv-peers" / "bin" / "python"
SPEED = "5"
TOKEN_ID, SECRET = "root@pam!ansible", "7f3a0000-0000-4000-8000-00000000abcd"
PASSWORD = "a-password"
TIMEOUT_S = 300.0
CREDENTIALS = {
    "token": {"PROXMOX_TOKEN_ID": TOKEN_ID.split("!")[1], "PROXMOX_TOKEN_SECRET": SECRET},
    "password": {"PROXMOX_PASSWORD": PASSWORD},
}


def play(
    url: str,
    folder: Path,
    credentials: dict[str, str],
    *arguments: str,
    playbook: Path = HERE / "playbook.yml",
) -> tuple[int, str, str]:
    """ansible-playbook's exit code, its output as JSON, and what it complained of.

    `folder` has the simulator's ca.pem.
    """
    host, port = url.removeprefix("https://").rsplit(":", 1)
    environment = os.environ | {
        "PROXMOX_HOST": host,
        "PROXMOX_PORT": port,
        "PROXMOX_USER": "root@pam",
        "REQUESTS_CA_BUNDLE": str(folder / "ca.pem"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_PYTHON_INTERPRETER": str(ANSIBLE),
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_INVENTORY_UNPARSED_WARNING": "False",
        "ANSIBLE_NOCOLOR": "1",
        **credentials,
    }
    done = subprocess.run(
        [ANSIBLE, "-m", "ansible", "playbook", *arguments, str(playbook)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    return done.returncode, done.stdout, done.stderr


def summarise(output: str) -> list[str]:
    """A line a task; and the message of each that failed."""
    lines = []
    for task in json.loads(output[output.index("{") :])["plays"][0]["tasks"]:
        result = task["hosts"]["localhost"]
        word = "FAILED" if result.get("failed") else "changed" if result.get("changed") else "ok"
        lines.append(f"  {word:8} {task['task']['name']}")
        for part in (result, *result.get("results", [])):
            if part.get("failed"):
                lines.append(f"           {part.get('msg')}")
    return lines


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="pve-peers-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pve_simulator", "--port", "0", "--speed", SPEED]
        command += ["--state", name, "--token", f"{TOKEN_ID}={SECRET}", "--password", PASSWORD]
        simulator = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert simulator.stdout is not None
            url = simulator.stdout.readline().split()[2]
            outcomes = [run(kind, url, folder, given) for kind, given in CREDENTIALS.items()]
        finally:
            simulator.terminate()
            simulator.wait()
    return 0 if all(outcomes) else 1


def run(kind: str, url: str, folder: Path, credentials: dict[str, str]) -> bool:
    print(f"community.proxmox with a {kind}:", flush=True)
    began = time.monotonic()
    code, output, complaint = play(url, folder, credentials)
    try:
        lines = summarise(output)
    except (ValueError, LookupError):
        lines = [output]
    print("\n".join(lines))
    if complaint.strip():
        print(complaint.strip(), file=sys.stderr)
    words = Counter(line.split()[0] for line in lines if line.startswith("  ") and line[2] != " ")
    counted = ", ".join(f"{count} {word}" for word, count in words.items())
    print(f"{'passed' if code == 0 else 'FAILED'}: {counted} in {time.monotonic() - began:.0f} s\n")
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
