"""What a user would use instead: Proxmox's own API, or Ansible's collection for it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.creating import NODES, create, nodes
from benchmarks.engine import SECRET, TOKEN_ID, Simulated, cluster_at_work, wait_for
from benchmarks.load import Caller
from benchmarks.row import Result, row
from tests.simulator.peers.run import ANSIBLE, play

if TYPE_CHECKING:
    from proxmoxer import ProxmoxAPI

    from benchmarks.site import Site

ROUNDS = 5
PLAYBOOK = Path(__file__).with_name("ansible.yml")
MADE = 20


@row("proxmoxer")
def proxmoxer(site: Site) -> list[Result]:
    """Proxmox knows no pages: who wants a hundred of its VMs reads all of them."""
    from tests.stack import TOKEN_ID

    direct = connect(site, TOKEN_ID)
    caller = Caller(site.web, site.operator)
    all_of_it, first_page, proxmox = [], [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = direct.cluster.resources.get(type="vm")
        proxmox.append(time.perf_counter() - began)
        began = time.perf_counter()
        json.loads(caller.get("vms?limit=100&cluster=demo"))
        first_page.append(time.perf_counter() - began)
        began = time.perf_counter()
        count = read_all(caller)
        all_of_it.append(time.perf_counter() - began)
        if count != len([one for one in found if not one.get("template")]):
            raise RuntimeError(f"{count} VMs of {len(found)} guests")
    floor = "proxmoxer asking Proxmox for the list, which has no pages"
    return [
        Result(
            "the first 100 of 10,000 VMs through Izvor",
            floor,
            [mine / theirs for mine, theirs in zip(first_page, proxmox, strict=True)],
            None,
            at_least=False,
            details={"theirs, s": sorted(proxmox)[ROUNDS // 2]},
        ),
        Result(
            "all 10,000 VMs through Izvor, in pages of 1,000",
            floor,
            [mine / theirs for mine, theirs in zip(all_of_it, proxmox, strict=True)],
            None,
            at_least=False,
            details={"this, s": sorted(all_of_it)[ROUNDS // 2]},
        ),
    ]


def read_all(caller: Caller) -> int:
    path, count = "vms?limit=1000&cluster=demo", 0
    while path:
        page = json.loads(caller.get(path))
        count += len(page["vms"])
        path = (page["next"] or "").partition("/api/v1/")[2]
    return count


def connect(site: Site, token_id: str) -> ProxmoxAPI:
    from proxmoxer import ProxmoxAPI

    user, _, name = token_id.partition("!")
    return ProxmoxAPI(
        "127.0.0.1",
        port=site.stack.simulator_port,
        user=user,
        token_name=name,
        token_value=site.stack.proxmox_secret,
        verify_ssl=str(site.stack.ca_file),
        timeout=30,
    )


@row("ansible")
def ansible(site: Site) -> list[Result]:
    """Twenty small VMs: linked clones, configured and started."""
    if not ANSIBLE.exists():
        raise RuntimeError("Ansible is not installed: `make peers` does it")
    arguments = ("--vms", "501", "--nodes", nodes(NODES), "--speed", "1")
    with cluster_at_work(site, "peers", *arguments) as simulated:
        mine = by_izvor(site, simulated)
        one_by_one = by_ansible(simulated, range(20_000, 20_000 + MADE), forks=1)
        at_once = by_ansible(simulated, range(21_000, 21_000 + MADE), forks=MADE)
    return [
        Result(
            f"{MADE} VMs through Izvor, to the last one's start",
            f"community.proxmox, {how}",
            [mine / theirs],
            None,
            at_least=False,
            details={"this, s": mine, "theirs, s": theirs},
        )
        for how, theirs in (("one after the other", one_by_one), (f"{MADE} forks", at_once))
    ]


def by_izvor(site: Site, simulated: Simulated) -> float:
    """Seconds, as those of Ansible."""
    operations, began = simulated.cluster.operations, time.monotonic()
    create(Caller(site.web, site.operator), "small", "peers", count=MADE)
    done = operations.filter(state="succeeded")
    wait_for(lambda: done.count() == MADE, 120, "the creations")
    return time.monotonic() - began


def by_ansible(simulated: Simulated, vmids: range, *, forks: int) -> float:
    """Raises RuntimeError with what it said when one of them was not made."""
    user, _, name = TOKEN_ID.partition("!")
    inventory = "".join(f"{vmid}," for vmid in vmids)
    began = time.monotonic()
    code, output, complaint = play(
        f"https://127.0.0.1:{simulated.port}",
        simulated.ca_file.parent,
        {"PROXMOX_USER": user, "PROXMOX_TOKEN_ID": name, "PROXMOX_TOKEN_SECRET": SECRET},
        *("--inventory", inventory, "--forks", str(forks)),
        playbook=PLAYBOOK,
    )
    took = time.monotonic() - began
    if code != 0:
        raise RuntimeError(f"ansible-playbook ended with {code}: {complaint or output[-2000:]}")
    return took
