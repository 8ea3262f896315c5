"""What a user would use instead: Proxmox's own API."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from benchmarks.load import Caller
from benchmarks.row import Result, row

if TYPE_CHECKING:
    from proxmoxer import ProxmoxAPI

    from benchmarks.site import Site

ROUNDS = 5


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
