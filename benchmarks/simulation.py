"""The simulator by itself: 10,000 VMs on 20 nodes while 500 tasks run."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.row import Result, row
from tests.simulator.measure import Caller

if TYPE_CHECKING:
    from benchmarks.site import Site

GUESTS, NODES, TASKS = 10_000, 20, 500
ROUNDS = 20


@row("simulator")
def simulator(site: Site) -> list[Result]:
    nodes = ",".join(f"node{number}" for number in range(1, NODES + 1))
    with tempfile.TemporaryDirectory(prefix="pve-bench-") as folder:
        command = [*(sys.executable, "-m", "pve_simulator", "--port", "0", "--state", folder)]
        # So slow that a start lasts two minutes.
        command += ["--vms", str(GUESTS), "--nodes", nodes, "--speed", "0.01"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[2]
            times = ask(Caller(url, Path(folder) / "ca.pem"))
            status = Path(f"/proc/{process.pid}/status").read_text()
        finally:
            process.terminate()
            process.wait()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    with_tasks = f"the simulator, 10,000 VMs, 20 nodes, {TASKS} tasks running: "
    return [
        Result(with_tasks + "/cluster/resources", "–", times, 150, at_least=False, unit="ms"),
        Result(
            with_tasks + "memory at most",
            "–",
            [int(peak.split()[1]) / 1024],
            300,
            at_least=False,
            unit="MiB",
        ),
    ]


def ask(caller: Caller) -> list[float]:
    """Milliseconds of each answer, with the tasks running from the first to the last."""
    _, raw = caller.call("GET", "/cluster/resources?type=vm")
    guests = json.loads(raw)["data"]
    stopped = [one for one in guests if one["status"] == "stopped" and not one.get("template")]
    for guest in stopped[:TASKS]:
        caller.act(f"/nodes/{guest['node']}/qemu/{guest['vmid']}/status/start")
    times = [caller.call("GET", "/cluster/resources")[0] for _ in range(ROUNDS)]
    running = 0
    for node in {guest["node"] for guest in guests}:
        _, raw = caller.call("GET", f"/nodes/{node}/tasks?source=active&limit=5000")
        running += len(json.loads(raw)["data"])
    if running < TASKS or len(guests) < GUESTS:
        raise RuntimeError(f"{running} tasks running, {len(guests)} guests")
    return times
