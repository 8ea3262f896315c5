"""`python -m tests.chaos`: hundreds of mixed requests while everything around them breaks.

Twenty clients ask for 500 things; meanwhile a worker is killed every five seconds, one answer in
twenty of Proxmox is lost and one fails, nodes, broker, database and web server go and come back.
Then all is left in peace, and what was promised is compared with what is there. Runs on loopback,
on servers of its own, and ends by itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.state import open_temporary_state
from tests.chaos.clients import Account, Client
from tests.chaos.mischief import Mischief
from tests.stack import Stack
from tests.waiting import wait_until

if TYPE_CHECKING:
    from operations.models import Operation

CLIENTS = 20
# An operation may wait for a node, a lease and a lane, one after the other.
SETTLE_S = 240.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--seconds", type=float, default=600, help="how long clients may ask")
    parser.add_argument("--requests", type=int, default=500, help="by all clients together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--logs", type=Path, help="a folder to copy the logs of all processes to")
    given = parser.parse_args()
    state = open_temporary_state()
    try:
        with Stack(state, given.seed) as stack:
            wrong = run(stack, given)
    finally:
        state.close()
        if given.logs:
            shutil.copytree(state.logs, given.logs, dirs_exist_ok=True)
        shutil.rmtree(state.path, ignore_errors=True)
    return 1 if wrong else 0


def run(stack: Stack, given: argparse.Namespace) -> list[str]:
    os.environ.update(stack.env)
    import django

    django.setup()
    from operations.models import UNFINISHED, Operation
    from tests.chaos.verdict import wrongs

    account, began = Account(), time.monotonic()
    each = max(1, given.requests // CLIENTS)
    clients = [Client(n, stack.url, account, given.seed, each) for n in range(CLIENTS)]
    mischief = Mischief(stack, given.seed)
    mischief.start()
    for client in clients:
        client.deadline = began + given.seconds
        client.start()
    for client in clients:
        client.join()
    asked_s = time.monotonic() - began
    mischief.stop()
    if mischief.failure is not None:
        raise mischief.failure
    left = Operation.objects.filter(state__in=UNFINISHED)
    try:
        wait_until(lambda: not left.exists(), "the end of all tasks", SETTLE_S)
    except AssertionError as error:
        print(error)
    report(account, mischief, list(Operation.objects.all()), asked_s, time.monotonic() - began)
    wrong = wrongs(account)
    print(f"\n{len(wrong)} broken promises")
    for text in wrong:
        print(f"  {text}")
    return wrong


def report(
    account: Account,
    mischief: Mischief,
    operations: list[Operation],
    asked_s: float,
    all_s: float,
) -> None:
    print(f"requests for {asked_s:.0f} s, all ended after {all_s:.0f} s")
    table("answers", account.answers)
    table("mischief", mischief.done)
    table("tasks", Counter(f"{o.kind} {o.state}" for o in operations))
    table("failures", Counter(f"{o.error_code}: {o.error}" for o in operations if o.error_code))
    took = [(o.ended_at - o.created_at).total_seconds() for o in operations if o.ended_at]
    if took:
        print(f"task, accepted to ended: median {statistics.median(took):.1f} s, ", end="")
        print(f"longest {max(took):.1f} s")


def table(title: str, counts: Counter[str]) -> None:
    print(f"\n{title}")
    for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        print(f"  {count:6} {name}")


if __name__ == "__main__":
    sys.exit(main())
