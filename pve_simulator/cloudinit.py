"""What a guest's cloud-init drive holds, and which of its settings changed since."""

from __future__ import annotations

import hashlib
import ipaddress
from typing import Any

from . import drives, vmconfig
from .formats import decode_ssh_keys
from .world import Config, Guest

_PENDING_KEYS = ("cipassword", "searchdomain", "nameserver", "ciuser", "sshkeys")


def pending(guest: Guest) -> list[dict[str, Any]]:
    """Each setting with its value; `old_value`-less, as a drive that was never made has none."""
    shown = vmconfig.masked(guest.config)
    rows: list[dict[str, Any]] = []
    for key in sorted(shown):
        if key in _PENDING_KEYS:
            row: dict[str, Any] = {"key": key, "value": shown[key]}
            seen = guest.cloudinit_seen.get(key)
            if guest.cloudinit_seen and seen != guest.config[key]:
                row = {"key": key, "pending": shown[key]}
                if seen is not None:
                    row["value"] = vmconfig.SECRET_MASK if key == "cipassword" else seen
            rows.append(row)
    return rows


def dump(guest: Guest, kind: str) -> str:
    if kind == "user":
        return _user_data(guest)
    if kind == "network":
        return _network_data(guest.config)
    whole = _user_data(guest) + _network_data(guest.config)
    return f"instance-id: {hashlib.sha1(whole.encode(), usedforsecurity=False).hexdigest()}\n"


def _user_data(guest: Guest) -> str:
    config = guest.config
    lines = ["#cloud-config", f"hostname: {guest.name.split('.')[0]}", "manage_etc_hosts: true"]
    domain = config.get("searchdomain")
    if domain and "." not in guest.name:
        lines.append(f"fqdn: {guest.name}.{domain}")
    elif "." in guest.name:
        lines.append(f"fqdn: {guest.name}")
    if "ciuser" in config:
        lines.append(f"user: {config['ciuser']}")
    if "cipassword" in config:
        lines.append(f"password: {config['cipassword']}")
    if "sshkeys" in config:
        lines.append("ssh_authorized_keys:")
        lines += [f"  - {key}" for key in decode_ssh_keys(str(config["sshkeys"]))]
    lines += ["chpasswd:", "  expire: False"]
    if config.get("ciuser") != "root":
        lines += ["users:", "  - default"]
    if config.get("ciupgrade", 1):
        lines.append("package_upgrade: true")
    return "\n".join(lines) + "\n"


def _network_data(config: Config) -> str:
    lines = ["version: 1", "config:"]
    for key in sorted(name for name in config if drives.NET.match(name)):
        index = key.removeprefix("net")
        mac = drives.parse_net(config[key]).mac.lower()
        lines += ["    - type: physical", f"      name: eth{index}", f"      mac_address: '{mac}'"]
        lines.append("      subnets:")
        lines += _subnets(drives.property_fields(config.get(f"ipconfig{index}", "")))
    lines += ["    - type: nameserver"]
    if "nameserver" in config:
        lines.append("      address:")
        lines += [f"      - '{server}'" for server in str(config["nameserver"]).split()]
    if "searchdomain" in config:
        lines.append("      search:")
        lines += [f"      - '{domain}'" for domain in str(config["searchdomain"]).split()]
    return "\n".join(lines) + "\n"


def _subnets(wanted: dict[str, str]) -> list[str]:
    lines = []
    for key, gateway, suffix in (("ip", "gw", "4"), ("ip6", "gw6", "6")):
        value = wanted.get(key)
        if value in ("dhcp", "auto"):
            lines.append(f"      - type: {'dhcp' + suffix if value == 'dhcp' else 'ipv6_slaac'}")
        elif value:
            interface = ipaddress.ip_interface(value)
            lines.append("      - type: static" + ("6" if suffix == "6" else ""))
            lines.append(f"        address: '{interface.ip if suffix == '4' else value}'")
            if suffix == "4":
                lines.append(f"        netmask: '{interface.netmask}'")
            if gateway in wanted:
                lines.append(f"        gateway: '{wanted[gateway]}'")
    return lines
