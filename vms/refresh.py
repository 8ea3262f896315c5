"""Reading one VM from Proxmox again: its state, its configuration, its addresses."""

from __future__ import annotations

import ipaddress
from typing import Any

from django.conf import settings

from clusters.connect import connect
from proxmox import Client, ProxmoxError
from proxmox.results import AgentInterface
from vms import observe
from vms.models import RUNNING, VirtualMachine

READ_S = 5.0


def refresh_vm(vm: VirtualMachine) -> None:
    """Ask Proxmox now. Raises ProxmoxError when it cannot be asked."""
    client = connect(vm.cluster, call_s=settings.ENGINE["call_s"])
    config = client.guest_config(vm.node, vm.vmid, timeout_s=READ_S)
    if vm.smbios_uuid and config.smbios_uuid != str(vm.smbios_uuid):
        # Another VM under its number: inventory finds out what became of ours.
        return
    status = client.guest_status(vm.node, vm.vmid, timeout_s=READ_S)
    values = observe.config_values(vm, config) | observe.status_values(status)
    values |= addresses(client, vm, values)
    observe.save(vm, values)
    vm.refresh_from_db()


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
        if not ipaddress.ip_address(address.ip).is_link_local
    ]


def static_addresses(ip_config: str) -> list[str]:
    words = dict(word.partition("=")[::2] for word in ip_config.split(",") if word)
    return [words[key].split("/")[0] for key in ("ip", "ip6") if "/" in words.get(key, "")]
