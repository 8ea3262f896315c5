"""`python -m launcher dev | services | flower | clean | run -- COMMAND`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from launcher.console import complain
from launcher.dev import run_dev
from launcher.errors import LaunchError
from launcher.flower import run_flower
from launcher.run import run_command, run_services
from launcher.services import ROOT
from launcher.state import remove_state


def main(argv: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a question mark, not a traceback.
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    arguments = _parse(argv)
    try:
        return _dispatch(arguments)
    except LaunchError as error:
        complain(f"izvor: {error}")
        return 1
    except KeyboardInterrupt:
        return 130  # so early that nothing runs yet


def _parse(argv: list[str]) -> argparse.Namespace:
    default_state = Path(os.environ.get("IZVOR_STATE_DIR") or ROOT / ".izvor")
    parser = argparse.ArgumentParser(prog="launcher", description=__doc__)
    parser.add_argument(
        "--follow-parent", action="store_true", help="stop when the process that started us is gone"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    dev = commands.add_parser("dev", help="all of Izvor on this machine, until Ctrl-C")
    dev.add_argument("--state", type=Path, default=default_state)
    services = commands.add_parser("services", help="Postgres and Valkey only, until Ctrl-C")
    services.add_argument("--state", type=Path, default=default_state)
    clean = commands.add_parser("clean", help="remove the state folder and all that is in it")
    clean.add_argument("--state", type=Path, default=default_state)
    flower = commands.add_parser("flower", help="Celery's monitor for what `dev` runs")
    flower.add_argument("--state", type=Path, default=default_state)
    run = commands.add_parser("run", help="a command with Postgres and Valkey around it")
    run.add_argument("--state", type=Path, help="keep the data here (default: a temporary folder)")
    run.add_argument("argv", nargs="+", metavar="COMMAND")
    return parser.parse_args(argv)


def _dispatch(arguments: argparse.Namespace) -> int:
    follow_parent: bool = arguments.follow_parent
    if arguments.command == "run":
        return run_command(arguments.argv, state_path=arguments.state, follow_parent=follow_parent)
    if arguments.command == "clean":
        return remove_state(arguments.state)
    if arguments.command == "flower":
        return run_flower(state_path=arguments.state)
    if arguments.command == "dev":
        return run_dev(state_path=arguments.state, follow_parent=follow_parent)
    return run_services(state_path=arguments.state, follow_parent=follow_parent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
