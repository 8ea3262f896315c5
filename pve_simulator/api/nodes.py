"""/nodes: the list, status, time, network, certificates."""

from __future__ import annotations

from typing import Any

from .. import stats, tls
from ..routing import Call, route
from ..world import GIB


@route("GET", "/nodes")
async def nodes(call: Call) -> Any:
    rows = []
    for node in call.sim.world.nodes.values():
        row = call.sim.cache.node(node) | {"ssl_fingerprint": tls.fingerprint(call.sim.certificate)}
        if not call.may(f"/nodes/{node.name}", "Sys.Audit"):
            kept = ("id", "node", "type", "level", "status", "ssl_fingerprint")
            row = {key: value for key, value in row.items() if key in kept}
        rows.append(row)
    return rows


@route("GET", "/nodes/{node}")
async def index(_call: Call) -> Any:
    names = [
        "qemu",
        "tasks",
        "storage",
        "network",
        "status",
        "version",
        "time",
        "dns",
        "certificates",
        "rrddata",
        "vzdump",
    ]
    return [{"name": name} for name in names]


@route("GET", "/nodes/{node}/status")
async def status(call: Call) -> Any:
    node = call.sim.world.node(call.node)
    used = stats.node_memory_used(call.sim, node)
    release = "Linux 6.8.12-15-pve #1 SMP PREEMPT_DYNAMIC PMX 6.8.12-15"
    return {
        "uptime": int(call.sim.clock.now() - node.booted_at),
        "cpu": stats.node_load(call.sim, node),
        "wait": 0.0,
        "idle": 0,
        "loadavg": ["0.42", "0.37", "0.31"],
        "kversion": release,
        "current-kernel": {
            "sysname": "Linux",
            "release": "6.8.12-15-pve",
            "version": "#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-15",
            "machine": "x86_64",
        },
        "boot-info": {"mode": "legacy-bios"},
        "cpuinfo": {
            "model": "Simulated CPU",
            "cpus": node.cpus,
            "cores": node.cpus,
            "sockets": 1,
            "mhz": "2400.000",
            "hvm": "1",
            "flags": "fpu vme de pse tsc msr pae mce cx8 apic sep",
            "user_hz": 100,
        },
        "memory": {
            "total": node.memory,
            "used": used,
            "free": node.memory - used,
        },
        "swap": {"total": 0, "used": 0, "free": 0},
        "ksm": {"shared": 0},
        "rootfs": {
            "total": node.root_size,
            "used": node.root_used,
            "free": node.root_size - node.root_used,
            "avail": node.root_size - node.root_used - GIB,
        },
        "pveversion": f"pve-manager/{call.sim.version['version']}/{call.sim.version['repoid']}",
    }


@route("GET", "/nodes/{node}/time")
async def node_time(call: Call) -> Any:
    now = int(call.sim.clock.now())
    return {"time": now, "localtime": now, "timezone": "Etc/UTC"}


@route("GET", "/nodes/{node}/dns")
async def dns(_call: Call) -> Any:
    return {"dns1": "10.255.255.53"}


@route("GET", "/nodes/{node}/network")
async def network(call: Call) -> Any:
    node = call.sim.world.node(call.node)
    wanted = call.params.get("type")
    physical = {
        "iface": node.nic,
        "type": "eth",
        "active": 1,
        "exists": 1,
        "families": ["inet"],
        "method": "manual",
        "method6": "manual",
        "priority": 3,
    }
    rows = [dict(bridge) for bridge in node.bridges]
    if wanted in (None, "eth"):
        rows.append(physical)
    if wanted not in (None, "any_bridge", "any_local_bridge", "include_sdn", "bridge"):
        rows = [row for row in rows if row["type"] == wanted]
    return rows


@route("GET", "/nodes/{node}/certificates/info")
async def certificates(call: Call) -> Any:
    return [
        tls.describe(call.sim.ca, "pve-root-ca.pem"),
        tls.describe(call.sim.certificate, "pve-ssl.pem"),
    ]


@route("GET", "/nodes/{node}/capabilities/qemu/machines")
async def machines(_call: Call) -> Any:
    rows = []
    for kind, prefix in (("q35", "pc-q35"), ("i440fx", "pc-i440fx")):
        for version in ("9.2", "9.0", "8.2", "8.1", "8.0", "7.2", "7.1", "7.0", "6.2", "6.1"):
            rows.append({"id": f"{prefix}-{version}", "type": kind, "version": version})
    return rows
