"""`make bench`: measures Izvor against floors on the same machine in the same minutes.

ARGS="list-100 reads" picks rows, ARGS=--record appends the table to docs/performance.md. Starts
servers of its own on loopback, and ends them. Exits with 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import (  # noqa: F401 - they register their rows
    creating,
    cycles,
    lists,
    memory,
    outstanding,
    peers,
    relay,
    simulation,
    start,
    stream,
)
from benchmarks.row import ROWS, Result, table
from benchmarks.site import open_site

HISTORY = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="row", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--record", action="store_true", help=f"append the table to {HISTORY.name}")
    asked = parser.parse_args()
    unknown = sorted(set(asked.rows) - set(ROWS))
    if unknown:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    # So that servers and folders go, too, when it is told to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    results: list[Result] = []
    missing: list[str] = []
    with open_site() as site:
        for name in asked.rows or ROWS:
            began = time.monotonic()
            try:
                found = ROWS[name].measure(site)
            except (RuntimeError, AssertionError, OSError) as error:
                # What could not be measured hides nothing of the rest.
                missing.append(f"{name}: not measured: {error}")
                print(f"\n{missing[-1]}", flush=True)
                continue
            print(f"\n{name}, {time.monotonic() - began:.0f} s\n{table(found)}", flush=True)
            results += found
    if asked.record:
        with HISTORY.open("a") as history:
            history.write(f"\n### {heading()}\n\n{table(results)}\n")
            history.writelines(f"\n{line}\n" for line in missing)
    return 0 if not missing and all(one.is_met for one in results) else 1


def heading() -> str:
    """When, which code, and on what."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    ram = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {commit or 'no commit'}, "
        f"{os.cpu_count()} cores ({processor()}), {ram:.0f} GiB, Python "
        f"{platform.python_version()}, load {load}"
    )


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
