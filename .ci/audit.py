"""Asks for known vulnerabilities of what is pinned: `python .ci/audit.py [--if-reachable] FILE…`.

Exit code 0: none is known. 1: some are, each named with the version that mends it. 2: not all could
be asked about, which is no good news; `--if-reachable` makes that 0 where nothing at all answered,
for machines that reach a mirror of the package index but not its advisories.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

PATIENCE_S = 300


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="audit", description=__doc__)
    parser.add_argument("--if-reachable", action="store_true")
    parser.add_argument("files", nargs="+", help="requirements with hashes")
    asked = parser.parse_args(argv)
    report, words = ask(asked.files)
    code, lines = verdict(report, words)
    print("\n".join(lines))
    is_silent = not any("vulns" in found for found in report)
    return 0 if code == 2 and is_silent and asked.if_reachable else code


def ask(files: list[str]) -> tuple[list[dict[str, Any]], str]:
    """pip-audit's findings by package, and what it said beside them."""
    command = [sys.executable, "-m", "pip_audit", "--format=json", "--progress-spinner=off"]
    command += ["--disable-pip", "--require-hashes"]
    for file in files:
        command += ["--requirement", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    try:
        report: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        report = []
    return report, done.stderr.strip()


def verdict(report: list[dict[str, Any]], words: str) -> tuple[int, list[str]]:
    vulnerable = [found for found in report if found.get("vulns")]
    skipped = [found for found in report if "skip_reason" in found]
    if not report:
        last = words.splitlines()[-1] if words else "pip-audit gave no reason"
        return 2, [f"Not audited: {last}"]
    lines = []
    for found in vulnerable:
        for vulnerability in found["vulns"]:
            mends = " or ".join(vulnerability["fix_versions"]) or "no version yet"
            lines.append(
                f"{found['name']} {found['version']}: {vulnerability['id']}, mended by {mends}"
            )
    if skipped:
        lines.append(f"Not audited: {len(skipped)} of {len(report)} packages, the first because: ")
        lines[-1] += skipped[0]["skip_reason"]
    if vulnerable:
        return 1, lines
    if skipped:
        return 2, lines
    return 0, [f"{len(report)} packages, no known vulnerability."]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
