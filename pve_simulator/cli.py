"""The command line: `python -m pve_simulator`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import re
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

from .options import DEFAULT_PASSWORD, DEFAULT_TOKEN_ID, DEFAULT_TOKEN_SECRET, VERSIONS, Options
from .persistence import StateError
from .server import Server
from .simulator import Simulator

MAX_GUESTS = 20_000
EARLIEST, LATEST = 1_000_000_000, 4_102_444_800
"""Moments that eight hexadecimal digits of a UPID or ticket hold."""
_NODE_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-]{0,61}[a-zA-Z0-9])?")


class UsageError(Exception):
    """A wrong argument; the message is the whole answer."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(message)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m pve_simulator", description="A Proxmox VE that is not there, over HTTPS."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8006, help="port; 0 takes any free one")
    parser.add_argument("--nodes", default="pve,pve2,pve3", help="node names, comma separated")
    parser.add_argument("--vms", type=int, default=8, help="guests besides the three templates")
    parser.add_argument(
        "--speed", type=float, default=1.0, help="divide simulated durations by this"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed for MACs, uuids and the like")
    parser.add_argument(
        "--clock",
        metavar="WHEN",
        help="the moment it starts at, like 2026-01-31T12:00:00Z; the real one unless given",
    )
    parser.add_argument("--state", type=Path, help="folder that keeps everything over restarts")
    parser.add_argument(
        "--token",
        action="append",
        default=[],
        metavar="USER@REALM!NAME=SECRET",
        help="an API token (may be given several times); or PVE_SIMULATOR_TOKEN, which ps hides",
    )
    parser.add_argument(
        "--password",
        default=os.environ.get("PVE_SIMULATOR_PASSWORD", DEFAULT_PASSWORD),
        help="password of root@pam; or PVE_SIMULATOR_PASSWORD",
    )
    parser.add_argument("--pve-version", default="8.4", choices=VERSIONS)
    parser.add_argument("--cluster-name", default="demo")
    parser.add_argument(
        "--no-lag", action="store_true", help="/cluster/resources is always current"
    )
    parser.add_argument(
        "--endpoint-per-node",
        action="store_true",
        help="a port for each node, counted up from --port; it is dead while its node is down",
    )
    parser.add_argument("--faults", action="store_true", help="open the fault API under /sim")
    parser.add_argument("--ready-file", type=Path, help="write the URL here when ready")
    return parser


def read_options(arguments: list[str]) -> tuple[Options, Path | None]:
    """Options and the ready file. Raises UsageError with a sentence."""
    given = build_parser().parse_args(arguments)
    nodes = tuple(name.strip() for name in given.nodes.split(",") if name.strip())
    if not nodes or len(set(nodes)) != len(nodes):
        raise UsageError("--nodes needs at least one name, each once")
    for name in nodes:
        if not _NODE_NAME.fullmatch(name):
            raise UsageError(f"--nodes: '{name}' is not a node name")
    if not 0 <= given.port <= 65535:
        raise UsageError("--port must be between 0 and 65535")
    if not 0 <= given.vms <= MAX_GUESTS:
        raise UsageError(f"--vms must be between 0 and {MAX_GUESTS}")
    if not 0.01 <= given.speed <= 10_000:
        raise UsageError("--speed must be between 0.01 and 10000")
    options = Options(
        host=given.host,
        port=given.port,
        nodes=nodes,
        vms=given.vms,
        speed=given.speed,
        seed=given.seed,
        clock=_moment(given.clock),
        state_dir=given.state,
        tokens=_tokens(given.token or os.environ.get("PVE_SIMULATOR_TOKEN", "").split()),
        password=given.password,
        pve_version=given.pve_version,
        cluster_name=given.cluster_name,
        is_lagging=not given.no_lag,
        has_fault_api=given.faults,
        has_endpoint_per_node=given.endpoint_per_node,
    )
    return options, given.ready_file


def _moment(text: str | None) -> float | None:
    """Unix seconds; a time without a zone is UTC."""
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
        moment = (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError("--clock must look like 2026-01-31T12:00:00Z") from None
    if not EARLIEST <= moment < LATEST:
        raise UsageError("--clock must lie between 2001 and 2100")
    return moment


def _tokens(given: list[str]) -> dict[str, str]:
    if not given:
        return {DEFAULT_TOKEN_ID: DEFAULT_TOKEN_SECRET}
    tokens = {}
    for text in given:
        match = re.fullmatch(r"([^\s!=]+@[^\s!=]+![A-Za-z][\w.\-]+)=(\S+)", text)
        if match is None:
            raise UsageError("--token must look like USER@REALM!NAME=SECRET")
        tokens[match.group(1)] = match.group(2)
    return tokens


async def serve(options: Options, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = Server(Simulator(options))
    try:
        await server.start()
        gc.freeze()  # or each collection would look through all of the world
        if ready_file is not None:
            ready_file.write_text("".join(f"{url}\n" for url in server.urls))
        print(f"simulator ready {server.url}", flush=True)
        await stop.wait()
    finally:
        await server.close()


def main(arguments: list[str] | None = None) -> int:
    try:
        options, ready_file = read_options(sys.argv[1:] if arguments is None else arguments)
    except UsageError as error:
        print(f"pve_simulator: {error}", file=sys.stderr)
        return 2
    try:
        asyncio.run(serve(options, ready_file))
    except StateError as error:
        print(f"pve_simulator: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = f"{options.host}:{options.port}"
        print(f"pve_simulator: cannot serve on {where}: {error.strerror or error}", file=sys.stderr)
        return 2
    return 0
