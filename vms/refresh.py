"""Reading one VM from Proxmox again: its state, its configuration, its addresses."""

from __future__ import annotations

import datetime
import ipaddress
from typing import Any

from django.db import transaction
from django.utils import timezone

from events.models import record_event
from operations import refusals
from proxmox import Client, NotFound, ProxmoxError
from proxmox.results import AgentInterface, GuestConfig
from vms import observe
from vms.marks import Mark, read_mark
from vms.models import RUNNING, UNKNOWN, VirtualMachine
from vms.preflight import client_of

READ_S = 5.0


def refresh_vm(vm: VirtualMachine) -> None:
    """Ask Proxmox now. Raises Unavailable, ProxmoxError when it cannot be asked."""
    if vm.doing:
        # Its task writes down what it sees. And half-made it has little of what was accepted, which
        # counts until it is made, for its project's quota too.
        return
    client = client_of(vm.cluster)
    try:
        config = find_config(vm, client)
    except NotFound as error:
        if error.what != "guest":
            raise
        if all(guest.vmid != vm.vmid for guest in client.resources(timeout_s=READ_S).guests):
            note_missing(vm, timezone.now())
            vm.refresh_from_db()
        return
    if write_config(vm, client, config):
        vm.refresh_from_db()


def find_config(vm: VirtualMachine, client: Client) -> GuestConfig:
    """On its node, else where HA or a person has moved it. Raises ProxmoxError."""
    try:
        return client.guest_config(vm.node, vm.vmid, timeout_s=READ_S)
    except NotFound as error:
        guests = client.resources(timeout_s=READ_S).guests if error.what == "guest" else ()
        elsewhere = [g.node for g in guests if g.vmid == vm.vmid and g.node != vm.node]
        if not elsewhere:
            raise
    config = client.guest_config(elsewhere[0], vm.vmid, timeout_s=READ_S)
    if is_it(vm, config):
        VirtualMachine.objects.filter(pk=vm.pk).update(node=elsewhere[0])
        vm.node = elsewhere[0]
    return config


def find_itself(vm: VirtualMachine, client: Client) -> None:
    """Make sure that this very VM is there, wherever it is now. Raises Refusal where it is gone or
    another has its number, ProxmoxError."""
    try:
        config = find_config(vm, client)
    except NotFound as error:
        if error.what != "guest":
            raise
        raise refusals.NotFound("vm_gone", f"VM {vm} is no longer on the cluster.") from None
    if not is_it(vm, config):
        raise refusals.Conflict(
            "vm_replaced", f"VMID {vm.vmid} is another VM now; it was left alone."
        )


def is_it(vm: VirtualMachine, config: GuestConfig) -> bool:
    """Is this the VM's own configuration, and not that of another one under its number?

    By its smbios uuid once that was seen; before that one of ours is known by its mark only, since
    a foreign VM may stand under the number that it was to get.
    """
    if vm.smbios_uuid is not None:
        return config.smbios_uuid == str(vm.smbios_uuid)
    if vm.is_ours:
        mine = Mark(cluster=vm.cluster.uuid, vm=vm.uuid, vmid=vm.vmid)
        return read_mark(config.description) == mine
    return True


def write_config(vm: VirtualMachine, client: Client, config: GuestConfig) -> bool:
    """What a VM's configuration, status and agent tell, into its row, unless a task has seen it
    since; False if it is another VM."""
    if not is_it(vm, config):
        return False
    status = client.guest_status(vm.node, vm.vmid, timeout_s=READ_S)
    values = observe.all_values(vm, config, status)
    values |= addresses(client, vm, values)
    snapshots = client.snapshots(vm.node, vm.vmid, timeout_s=READ_S)
    with transaction.atomic():
        unseen = VirtualMachine.objects.select_for_update().filter(
            pk=vm.pk, doing="", settled_at=vm.settled_at
        )
        if unseen.first() is not None:
            observe.save(vm, values)
            observe.save_snapshots(vm, snapshots)
    return True


def note_missing(vm: VirtualMachine, at: datetime.datetime) -> None:
    """It is no longer on its cluster, and nobody of ours is at work on it: marked, not dropped."""
    rows = VirtualMachine.objects.filter(
        pk=vm.pk, doing="", has_failed=False, missing_since=None
    ).update(missing_since=at, power=UNKNOWN)
    if rows:
        record_event(
            "vm.missing", by="proxmox", project_id=vm.project_id, subject=vm.uuid, label=str(vm)
        )


def addresses(client: Client, vm: VirtualMachine, values: dict[str, Any]) -> dict[str, Any]:
    """The VM's addresses: the agent's, else those that cloud-init was told to set."""
    found: list[str] = []
    if values["power"] == RUNNING and values["agent_enabled"]:
        try:
            found = agent_addresses(
                client.agent_interfaces(vm.node, vm.vmid, timeout_s=READ_S), values["mac_address"]
            )
        except ProxmoxError:
            # Not up yet, or dead: the configuration is what is left to go by.
            found = []
    found = found or static_addresses(values["cloud_init"].get("ip_config", ""))
    return {
        "ip_address": next((ip for ip in found if ":" not in ip), None),
        "ipv6_address": next((ip for ip in found if ":" in ip), None),
    }


def agent_addresses(interfaces: tuple[AgentInterface, ...], mac: str) -> list[str]:
    """Of the interface that has net0's MAC: a bridge such as docker0 is not the VM's address."""
    return [
        address.ip
        for interface in interfaces
        if interface.mac and interface.mac.lower() == mac.lower()
        for address in interface.addresses
        if is_address(address.ip)
    ]


def is_address(text: str) -> bool:
    """One that others can use. The agent is a program of the guest: it may say anything."""
    try:
        return not ipaddress.ip_address(text).is_link_local and "%" not in text
    except ValueError:
        return False


def static_addresses(ip_config: str) -> list[str]:
    words = dict(word.partition("=")[::2] for word in ip_config.split(",") if word)
    return [words[key].split("/")[0] for key in ("ip", "ip6") if "/" in words.get(key, "")]
