"""Run by the supervisor's tests: `supervise.py STATE TABLE_JSON [--follow-parent]`.

The table is a list of tiers, each a list of {"name", "code"}: children that run Python `code`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from launcher.children import Child
from launcher.console import complain, say
from launcher.errors import LaunchError, StopRequested
from launcher.state import open_state
from launcher.supervisor import Supervisor


def child(row: dict[str, Any]) -> Child:
    ready_file = row.get("ready_file")
    return Child(
        name=row["name"],
        argv=[sys.executable, "-I", "-S", "-c", row["code"]],
        env=os.environ,
        cwd=Path.cwd(),
        ready=(lambda: Path(ready_file).exists()) if ready_file else None,
        stop=row.get("stop", "TERM:0.5"),
        ready_timeout_s=row.get("ready_timeout_s", 20.0),
        advice=row.get("advice", ""),
    )


def main() -> int:
    state = open_state(Path(sys.argv[1]), say=say)
    try:
        with Supervisor(state, follow_parent="--follow-parent" in sys.argv) as supervisor:
            for tier in json.loads(sys.argv[2]):
                supervisor.add(*map(child, tier))
            say("all ready")
            supervisor.watch()
    except StopRequested:
        say("stopped")
    except LaunchError as error:
        complain(str(error))
        return 1
    finally:
        state.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
