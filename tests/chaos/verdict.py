"""Was anything lost, doubled or left behind? Asked of the database and of Proxmox itself."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import Any

from clusters.connect import connect
from clusters.models import Cluster
from inventory import cycle
from operations.models import SUCCEEDED, Claim, LaneTicket, Operation
from proxmox import Client
from proxmox.results import GuestConfig
from tests.chaos.clients import Account, Promise
from vms.marks import read_mark
from vms.models import PAUSED, RUNNING, VirtualMachine
from vms.observe import power_of

# Three of the simulated statistics daemon's cycles (10 s, twenty times as fast).
LIST_LAG_S = 1.5


def wrongs(account: Account) -> list[str]:
    """Every broken promise, as a sentence; empty when all is as it should be."""
    cluster = Cluster.objects.get(is_enabled=True)
    client = connect(cluster)
    # The cluster's list is a cycle old: it is believed here at once, so it must have caught up.
    time.sleep(LIST_LAG_S)
    VirtualMachine.objects.update(settled_at=None)
    cycle.look_at(cluster, with_details=False)
    found = [f"an error of ours: {text}" for text in account.broken]
    found += unended(account.promises)
    found += leaks()
    guests = marked_guests(client)
    found += doubled(guests)
    found += creations(account.promises, guests)
    found += disagreements(client, guests)
    return found


def operations() -> dict[str, Operation]:
    return {str(operation.uuid): operation for operation in Operation.objects.all()}


def unended(promises: list[Promise]) -> list[str]:
    known = operations()
    lost = [p for p in promises if p.task not in known]
    running = [known[p.task] for p in promises if p.task in known and not known[p.task].is_ended]
    twice = [task for task, n in Counter(p.task for p in promises).items() if n > 1]
    internal = [o for o in known.values() if o.error_code == "internal_error"]
    return [
        *(f"{p.what} {p.vm} was accepted as {p.task}, which does not exist" for p in lost),
        *(f"{o} ({o.uuid}) has not ended: {o.step}, {o.waiting_for}" for o in running),
        *(f"task {task} was given to two requests" for task in twice),
        *(f"{o} ended with an error of ours: {o.error}" for o in internal),
    ]


def leaks() -> list[str]:
    busy = VirtualMachine.objects.exclude(doing="")
    leased = Operation.objects.exclude(lease_token=None)
    secret = Operation.objects.filter(state=SUCCEEDED).exclude(sealed_params="")
    return [
        *(f"claim {claim} is still held" for claim in Claim.objects.all()),
        *(f"lane ticket {ticket} is still held" for ticket in LaneTicket.objects.all()),
        *(f"VM {vm} is still {vm.doing}" for vm in busy),
        *(f"{operation} still has a lease" for operation in leased),
        *(f"{operation} still has its secrets" for operation in secret),
    ]


Guests = dict[str, list[tuple[int, str, GuestConfig]]]


def marked_guests(client: Client) -> Guests:
    """Guests that bear a mark which names their own VMID, by the VM that it names."""
    found: Guests = defaultdict(list)
    for guest in client.resources(timeout_s=30).guests:
        if guest.is_template:
            continue
        config = client.guest_config(guest.node, guest.vmid, timeout_s=30)
        mark = read_mark(config.description)
        if mark is not None and mark.vmid == guest.vmid:
            found[str(mark.vm)].append((guest.vmid, guest.node, config))
        elif config.lock:
            found[f"locked guest {guest.vmid}"].append((guest.vmid, guest.node, config))
    return found


def doubled(guests: Guests) -> list[str]:
    return [f"{vm} exists {len(all_of)} times" for vm, all_of in guests.items() if len(all_of) > 1]


def creations(promises: list[Promise], guests: Guests) -> list[str]:
    """Each success exists as asked, unless it was deleted; each failure left nothing."""
    known = operations()
    deleted = {p.vm for p in promises if p.what == "delete" and succeeded(known, p)}
    changed = {p.vm for p in promises if p.what == "update"}
    found = []
    for promise in promises:
        if promise.what not in {"create", "clone"} or promise.task not in known:
            continue
        there = guests.get(promise.vm)
        if not succeeded(known, promise) or promise.vm in deleted:
            operation = known[promise.task]
            if there and "Undoing it failed too" not in operation.error:
                found.append(f"{promise.vm} is still there, {operation.state}: {operation.error}")
        elif not there:
            found.append(f"{promise.what} of {promise.vm} succeeded, and it is not there")
        elif promise.what == "create" and promise.vm not in changed:
            found += differences(promise, there[0][2])
    return found


def succeeded(known: dict[str, Operation], promise: Promise) -> bool:
    return promise.task in known and known[promise.task].state == SUCCEEDED


def differences(promise: Promise, config: GuestConfig) -> list[str]:
    seen: dict[str, Any] = {
        "name": config.name,
        "cores": config.cores,
        "memory": config.memory_mib,
    }
    return [
        f"{promise.vm}: {name} is {value!r}, asked was {promise.asked[name]!r}"
        for name, value in seen.items()
        if promise.asked[name] != value
    ]


def disagreements(client: Client, guests: Guests) -> list[str]:
    """Rows and guests name one another, and agree on place and power."""
    rows = {str(vm.uuid): vm for vm in VirtualMachine.objects.filter(deleted_at=None)}
    found = [f"{vm} is on the cluster and in no living row" for vm in guests if vm not in rows]
    for uuid, vm in rows.items():
        if not vm.is_ours:
            continue
        if uuid not in guests:
            if not (vm.has_failed or vm.missing_since):
                found.append(f"VM {vm} ({vm.status}) is in the database and not on the cluster")
            continue
        vmid, node, _ = guests[uuid][0]
        status = client.guest_status(node, vmid, timeout_s=30)
        power = power_of(status)
        same = power == vm.power or {power, vm.power} == {RUNNING, PAUSED}
        if (vmid, node) != (vm.vmid, vm.node) or not same:
            found.append(f"VM {vm} is {vm.power} on {vm.node}; Proxmox: {vmid} {power} on {node}")
    return found
