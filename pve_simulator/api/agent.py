"""/nodes/N/qemu/V/agent: what the guest agent answers, once it is up."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from .. import drives, stats
from ..errors import PveError
from ..routing import Call, route
from ..text import words
from ..world import Guest

PING_TIMEOUT_S = 3.0


async def live_guest(call: Call) -> Guest:
    """The guest, if its agent answers; else Proxmox's refusals, after their time."""
    guest = call.sim.world.guest(call.node, call.vmid)
    if not guest.is_running:
        raise PveError(f"VM {call.vmid} is not running")
    if not drives.is_agent_enabled(guest.running_config):
        raise PveError("No QEMU guest agent configured")
    if not stats.agent_is_up(call.sim, guest):
        await call.sim.clock.sleep(PING_TIMEOUT_S)
        if not stats.agent_is_up(call.sim, guest):
            raise PveError("QEMU guest agent is not running")
    return guest


@route("POST", "/nodes/{node}/qemu/{vmid}/agent/ping")
async def ping(call: Call) -> Any:
    await live_guest(call)
    return {"result": {}}


@route("GET", "/nodes/{node}/qemu/{vmid}/agent/network-get-interfaces")
async def interfaces(call: Call) -> Any:
    guest = await live_guest(call)
    loopback = [("127.0.0.1", 8), ("::1", 128)]
    rows = [_interface("lo", "00:00:00:00:00:00", loopback, 0)]
    nets = sorted(key for key in guest.running_config if drives.NET.match(key))
    for index, key in enumerate(nets):
        net = drives.parse_net(guest.running_config[key])
        addresses = [*_addresses(guest, key), (link_local(net.mac), 64)]
        received = stats.traffic(call.sim, guest, 3)
        rows.append(_interface(f"eth{index}", net.mac.lower(), addresses, received))
    return {"result": rows}


def _interface(
    name: str, mac: str, addresses: list[tuple[str, int]], received: int
) -> dict[str, Any]:
    zero = dict.fromkeys(("rx-errs", "rx-dropped", "tx-errs", "tx-dropped"), 0)
    counters = {"rx-bytes": received, "rx-packets": received // 90}
    counters |= {"tx-bytes": received // 3, "tx-packets": received // 270}
    return {
        "name": name,
        "hardware-address": mac,
        "ip-addresses": [
            {
                "ip-address": address,
                "ip-address-type": "ipv6" if ":" in address else "ipv4",
                "prefix": prefix,
            }
            for address, prefix in addresses
        ],
        "statistics": zero | counters,
    }


def _addresses(guest: Guest, key: str) -> list[tuple[str, int]]:
    """What cloud-init set at the boot, else a lease that depends on the MAC."""
    has_seed = any(drive.is_cloudinit for drive in drives.drives_of(guest.running_config))
    index = key.removeprefix("net")
    wanted = drives.property_fields(guest.running_config.get(f"ipconfig{index}", ""))
    found: list[tuple[str, int]] = []
    static = wanted.get("ip", "dhcp") if has_seed else "dhcp"
    if static == "dhcp":
        found.append((leased_address(drives.parse_net(guest.running_config[key])), 16))
    else:
        interface = ipaddress.ip_interface(static)
        found.append((str(interface.ip), interface.network.prefixlen))
    if has_seed and wanted.get("ip6", "auto") not in ("auto", "dhcp"):
        interface6 = ipaddress.ip_interface(wanted["ip6"])
        found.append((str(interface6.ip), interface6.network.prefixlen))
    return found


def leased_address(net: drives.Net) -> str:
    """10.N.x.y, N from the bridge, the rest from the MAC: the same lease every time."""
    bridge = net.options.get("bridge", "vmbr0")
    digits = "".join(c for c in bridge if c.isdigit()) or "0"
    last = [int(part, 16) for part in net.mac.split(":")[-2:]]
    return f"10.{100 + int(digits) % 100}.{last[0]}.{min(254, max(1, last[1]))}"


def link_local(mac: str) -> str:
    parts = [int(part, 16) for part in mac.split(":")]
    parts[0] ^= 2
    groups = [*parts[:3], 0xFF, 0xFE, *parts[3:]]
    words = [f"{groups[i]:02x}{groups[i + 1]:02x}" for i in range(0, 8, 2)]
    return str(ipaddress.IPv6Address("fe80::" + ":".join(words)))


@route("GET", "/nodes/{node}/qemu/{vmid}/agent/get-host-name")
async def host_name(call: Call) -> Any:
    guest = await live_guest(call)
    return {"result": {"host-name": guest.name}}


@route("GET", "/nodes/{node}/qemu/{vmid}/agent/get-osinfo")
async def os_info(call: Call) -> Any:
    await live_guest(call)
    return {
        "result": {
            "id": "debian",
            "name": "Debian GNU/Linux",
            "pretty-name": "Debian GNU/Linux 12 (bookworm)",
            "version": "12 (bookworm)",
            "version-id": "12",
            "machine": "x86_64",
            "kernel-release": "6.1.0-37-amd64",
            "kernel-version": "#1 SMP PREEMPT_DYNAMIC Debian 6.1.140-1",
        }
    }


_COMMANDS = words(
    "exec exec-status file-close file-flush file-open file-read file-seek file-write",
    "fsfreeze-freeze fsfreeze-freeze-list fsfreeze-status fsfreeze-thaw fstrim get-cpustats",
    "get-devices get-disks get-diskstats get-fsinfo get-host-name get-memory-block-info",
    "get-memory-blocks get-osinfo get-time get-timezone get-users get-vcpus info",
    "network-get-interfaces ping set-memory-blocks set-time set-user-password set-vcpus shutdown",
    "ssh-add-authorized-keys ssh-get-authorized-keys ssh-remove-authorized-keys suspend-disk",
    "suspend-hybrid suspend-ram sync sync-delimited",
)
_SILENT = ("shutdown", "suspend-disk", "suspend-hybrid", "suspend-ram")
"""Commands that answer only when they fail."""

_DISABLED = ("get-devices",)


@route("GET", "/nodes/{node}/qemu/{vmid}/agent/info")
async def info(call: Call) -> Any:
    await live_guest(call)
    commands = [
        {
            "name": f"guest-{name}",
            "enabled": name not in _DISABLED,
            "success-response": name not in _SILENT,
        }
        for name in _COMMANDS
    ]
    return {"result": {"version": "7.2.22", "supported_commands": commands}}


@route("POST", "/nodes/{node}/qemu/{vmid}/agent/exec")
async def execute(call: Call) -> Any:
    """Runs nothing: of a shell line it understands `echo WORDS` and `exit N`."""
    guest = await live_guest(call)
    command = [str(part) for part in call.params["command"]]
    line = command[-1] if command[:2] == ["/bin/sh", "-c"] else " ".join(command)
    output = "".join(f"{text.strip()}\n" for text in re.findall(r"\becho ([^;&|]*)", line))
    code = re.search(r"\bexit (\d+)", line)
    pid = 150 + len(guest.agent_processes)
    guest.agent_processes[pid] = [output, int(code.group(1)) if code else 0]
    return {"pid": pid}


@route("GET", "/nodes/{node}/qemu/{vmid}/agent/exec-status")
async def execution(call: Call) -> Any:
    guest = await live_guest(call)
    found = guest.agent_processes.get(int(call.params["pid"]))
    if found is None:
        raise PveError("Agent error: Invalid parameter 'pid'")
    status = {"exited": 1, "exitcode": found[1], "out-truncated": 0}
    return status | ({"out-data": found[0]} if found[0] else {})
