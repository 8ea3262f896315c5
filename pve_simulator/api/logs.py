"""The cluster's log and the node's system log."""

from __future__ import annotations

from typing import Any

from ..routing import Call, WithTotal, route


@route("GET", "/cluster/log")
async def cluster_log(call: Call) -> Any:
    """Starts and ends of tasks, newest first."""
    sees_all = call.may("/", "Sys.Syslog")
    rows: list[dict[str, Any]] = []
    for record in call.sim.world.tasks.values():
        if not sees_all and record.user != call.identity.authid:
            continue
        common = {"node": record.node, "pid": record.pid, "tag": "pvedaemon", "user": record.user}
        rows.append(
            common | {"time": record.starttime, "pri": 6, "msg": f"starting task {record.upid}"}
        )
        if record.endtime is not None:
            pri = 6 if record.exitstatus == "OK" else 3
            text = f"end task {record.upid} {record.exitstatus}"
            rows.append(common | {"time": record.endtime, "pri": pri, "msg": text})
    for number, row in enumerate(rows, start=1):
        row |= {"uid": str(number), "id": f"{number}:{row['node']}"}
    return rows[::-1][: int(call.params.get("max", 50))]


@route("GET", "/nodes/{node}/syslog")
async def syslog(_call: Call) -> Any:
    return WithTotal([{"n": 1, "t": "-- No entries --"}], 1)
