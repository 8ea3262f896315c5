"""A person's user-data as a NoCloud ISO: how cloud-init takes it without a file on the node.

Proxmox's API uploads no snippets, but ISO images; cloud-init reads a volume labelled `cidata` with
four files. What the API's other cloud-init fields say goes into `vendor-data`, which user-data
overrides field by field, so that both count and the person has the last word.
https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import json
from dataclasses import dataclass
from typing import Any

import pycdlib

LABEL = "cidata"


@dataclass(frozen=True)
class Guest:
    """Who the ISO is for; `mac` is its first network card's, "" for none."""

    uuid: str
    name: str
    mac: str


def files_for(guest: Guest, asked: dict[str, Any]) -> dict[str, str]:
    """The files' texts by name, from cloud-init's fields as they were sealed with the VM."""
    hostname = guest.name.partition(".")[0]
    vendor: dict[str, Any] = {
        "hostname": hostname,
        **({"fqdn": guest.name} if "." in guest.name else {}),
        "manage_etc_hosts": True,
        "users": ["default"],
    }
    if asked.get("user"):
        vendor["user"] = asked["user"]
    if asked.get("password_hash"):
        vendor |= {"password": asked["password_hash"], "chpasswd": {"expire": False}}
    if asked.get("ssh_keys"):
        vendor["ssh_authorized_keys"] = asked["ssh_keys"]
    files = {
        "user-data": asked["user_data"],
        "vendor-data": f"#cloud-config\n{json.dumps(vendor, indent=1)}\n",
    }
    network = network_config(guest, asked)
    if network:
        files["network-config"] = json.dumps(network, indent=1) + "\n"
    # What it holds is a part of the instance's name: cloud-init applies what has changed.
    instance = f"{guest.uuid}-{digest_of(files)}"
    meta = {"instance-id": instance, "local-hostname": hostname}
    return {"meta-data": json.dumps(meta, indent=1) + "\n", **files}


def digest_of(files: dict[str, str]) -> str:
    whole = json.dumps(files, sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


def network_config(guest: Guest, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Version 1, as Proxmox writes it too; None leaves the network to the image (DHCP)."""
    words = dict(word.partition("=")[::2] for word in asked.get("ip_config", "").split(",") if word)
    dns, domain = asked.get("dns", []), asked.get("searchdomain", "")
    if not (words or dns or domain):
        return None
    subnets = [
        subnet
        for key, gateway in (("ip", "gw"), ("ip6", "gw6"))
        if (subnet := _subnet(words.get(key, ""), words.get(gateway), is_v6=key == "ip6"))
    ]
    card = {"type": "physical", "name": "eth0", "subnets": subnets or [{"type": "dhcp4"}]}
    if guest.mac:
        card["mac_address"] = guest.mac.lower()
    resolver = {
        "type": "nameserver",
        **({"address": dns} if dns else {}),
        **({"search": [domain]} if domain else {}),
    }
    return {"version": 1, "config": [card, *([resolver] if dns or domain else [])]}


def _subnet(value: str, gateway: str | None, *, is_v6: bool) -> dict[str, str] | None:
    if not value:
        return None
    if value == "dhcp":
        return {"type": "dhcp6" if is_v6 else "dhcp4"}
    if value == "auto":
        return {"type": "ipv6_slaac"}
    address = str(ipaddress.ip_interface(value))
    return {
        "type": "static6" if is_v6 else "static",
        "address": address,
        **({"gateway": gateway} if gateway else {}),
    }


def build_iso(files: dict[str, str]) -> bytes:
    """ISO 9660 with Joliet and Rock Ridge names, since the files' own are not of 8.3."""
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    for number, (name, text) in enumerate(sorted(files.items())):
        content = text.encode()
        iso.add_fp(
            io.BytesIO(content),
            len(content),
            f"/FILE{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
        )
    written = io.BytesIO()
    iso.write_fp(written)
    iso.close()
    return written.getvalue()
