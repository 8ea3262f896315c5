"""`make dev` on a folder that it knows: how long until all of Izvor is ready?"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.row import Result, row
from launcher.ports import remembered_port
from launcher.services import ROOT

if TYPE_CHECKING:
    from benchmarks.site import Site

WARM = 3
PATIENCE_S = 90


@row("dev")
def dev(site: Site) -> list[Result]:
    with tempfile.TemporaryDirectory(prefix="izvor-dev-") as folder:
        cold, *warm = [start(Path(folder)) for _ in range(1 + WARM)]
    return [
        Result(
            "`make dev`, warm start to ready",
            "–",
            warm,
            8,
            at_least=False,
            unit="s",
            details={"first start, s": cold},
        )
    ]


def start(folder: Path) -> float:
    """Seconds, by its own word and from the moment of the call; it is stopped again."""
    theirs = ("DATABASE_URL", "REDIS_URL", "DJANGO_SETTINGS_MODULE")
    env = {
        name: value
        for name, value in os.environ.items()
        if name not in theirs and not name.startswith(("IZVOR_", "PROXMOX_"))
    }
    port = remembered_port(folder / "bench.port", host="127.0.0.1", first=18282)
    env["IZVOR_PORT"] = str(port)
    command = [sys.executable, "-m", "launcher", "--follow-parent", "dev"]
    process = subprocess.Popen(
        [*command, "--state", str(folder / "state")],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    too_late = threading.Timer(PATIENCE_S, process.kill)
    too_late.start()
    said = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if found := re.search(r"ready after ([0-9.]+) s", line):
                return float(found[1])
        raise RuntimeError("make dev ended: " + "".join(said))
    finally:
        too_late.cancel()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
