"""`python -m tests.simulator.conformance`: how far the simulator agrees with the recording."""

from __future__ import annotations

import json
from pathlib import Path

from tests.simulator.replay import Result, replay

EXCLUSIONS = Path(__file__).parents[1] / "data" / "pve" / "excluded.json"


def load_exclusions() -> dict[str, str]:
    """Names of exchanges that need not agree, with the reason."""
    loaded: dict[str, str] = json.loads(EXCLUSIONS.read_text())
    return loaded


def report(results: list[Result]) -> tuple[str, bool]:
    """The text to print, and whether every exchange that must agree does."""
    agreeing = [result for result in results if result.agrees]
    share = 100 * len(agreeing) / len(results)
    lines = []
    is_good = True
    for result in results:
        if result.agrees:
            continue
        if result.excluded is None:
            is_good = False
            lines.append(f"DISAGREES {result.name}")
            lines += [f"    {problem}" for problem in result.problems[:6]]
        else:
            lines.append(f"left out  {result.name}: {result.excluded}")
    lines.append(f"{len(agreeing)} of {len(results)} exchanges agree ({share:.1f}%)")
    return "\n".join(lines), is_good


def main() -> int:
    text, is_good = report(replay(load_exclusions()))
    print(text)
    return 0 if is_good else 1


if __name__ == "__main__":
    raise SystemExit(main())
