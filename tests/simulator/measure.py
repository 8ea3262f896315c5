"""How quick and how big the simulator is with 10,000 guests: `python -m tests.simulator.measure`.

Prints what was measured and exits with 1 when a bound of docs/simulator.md is not kept. Not a test:
on a busy machine the numbers say nothing.
"""

from __future__ import annotations

import http.client
import json
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GUESTS, NODES = 10_000, 20
ROUNDS = 30
RESOURCES_MS, MEMORY_MIB, PAUSE_MS = 150.0, 300.0, 100.0
WATCHED_S = 15.0
TOKEN = "PVEAPIToken=root@pam!izvor=00000000-0000-4000-8000-000000000001"


class Caller:
    """One kept connection, as a client would hold."""

    def __init__(self, url: str, ca_file: Path) -> None:
        tls = ssl.create_default_context(cafile=str(ca_file))
        host, port = url.removeprefix("https://").split(":")
        self._connection = http.client.HTTPSConnection(host, int(port), context=tls, timeout=60)

    def call(self, method: str, path: str, body: str | None = None) -> tuple[float, bytes]:
        """Milliseconds until the answer was there, and the answer."""
        began = time.perf_counter()
        headers = {"Authorization": TOKEN}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self._connection.request(method, f"/api2/json{path}", body=body, headers=headers)
        answer = self._connection.getresponse()
        raw = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{method} {path}: {answer.status} {answer.reason}")
        return (time.perf_counter() - began) * 1000, raw

    def act(self, path: str) -> str:
        """POST, and the UPID of the task that it began."""
        _, raw = self.call("POST", path, "")
        return str(json.loads(raw)["data"])


def measure(caller: Caller, pid: int, state: Path) -> list[tuple[str, float, float, str]]:
    """What, how much, the bound, the unit."""
    times, size = [], 0
    for _ in range(ROUNDS):
        took_ms, raw = caller.call("GET", "/cluster/resources")
        times.append(took_ms)
        size = len(json.loads(raw)["data"])
    if size < GUESTS:
        raise SystemExit(f"only {size} rows")
    pauses, saves, seen = [], 0, state.stat().st_mtime_ns
    end = time.monotonic() + WATCHED_S
    while time.monotonic() < end:
        took_ms, _ = caller.call("PUT", "/nodes/node1/qemu/100/config", f"memory={1024 + saves}")
        pauses.append(took_ms)
        if (changed := state.stat().st_mtime_ns) != seen:
            saves, seen = saves + 1, changed
    status = Path(f"/proc/{pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    memory_mib = int(peak.split()[1]) / 1024
    print(f"{len(pauses)} changes and {saves} saves of {state.stat().st_size >> 20} MiB")
    return [
        ("/cluster/resources, median", statistics.median(times), RESOURCES_MS, "ms"),
        ("/cluster/resources, slowest", max(times), RESOURCES_MS * 1.5, "ms"),
        ("a change while saves go on, median", statistics.median(pauses), PAUSE_MS, "ms"),
        ("a change while saves go on, slowest", max(pauses), PAUSE_MS * 1.5, "ms"),
        ("memory, at most", memory_mib, MEMORY_MIB, "MiB"),
    ]


def main() -> int:
    nodes = ",".join(f"node{number}" for number in range(1, NODES + 1))
    with tempfile.TemporaryDirectory(prefix="pve-measure-") as folder:
        command = [sys.executable, "-m", "pve_simulator", "--port", "0", "--state", folder]
        command += ["--vms", str(GUESTS), "--nodes", nodes]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[2]
            caller = Caller(url, Path(folder) / "ca.pem")
            found = measure(caller, process.pid, Path(folder) / "world.json")
        finally:
            process.terminate()
            process.wait()
    is_good = True
    for what, value, bound, unit in found:
        is_good = is_good and value <= bound
        print(f"{'ok ' if value <= bound else 'BAD'} {what}: {value:.1f} {unit} (<= {bound:.0f})")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
