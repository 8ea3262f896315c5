"""/nodes/N/tasks: lists, status, log, abort."""

from __future__ import annotations

from typing import Any

from ..errors import PveError
from ..formats import split_list
from ..routing import Call, WithTotal, route
from ..world import TaskRecord

DEFAULT_LIMIT = 50


def identity_fields(record: TaskRecord) -> dict[str, Any]:
    """`user` and, for a token's task, `tokenid`."""
    userid, _, token = record.user.partition("!")
    return {"user": userid, "tokenid": token} if token else {"user": userid}


def is_own(record: TaskRecord, authid: str) -> bool:
    """A token sees its own tasks, a user also those of its tokens."""
    return authid in (record.user, record.user.split("!", 1)[0])


def cluster_row(record: TaskRecord) -> dict[str, Any]:
    row: dict[str, Any] = {
        "upid": record.upid,
        "node": record.node,
        "type": record.type,
        "id": record.id,
        "starttime": record.starttime,
        **identity_fields(record),
    }
    if record.is_running:
        row["pid"] = record.pid
    else:
        row |= {"endtime": record.endtime, "status": record.exitstatus, "saved": "1"}
    return row


def _archive_row(record: TaskRecord) -> dict[str, Any]:
    return {
        "upid": record.upid,
        "node": record.node,
        "pid": record.pid,
        "pstart": record.pstart,
        "starttime": record.starttime,
        "endtime": record.endtime,
        "type": record.type,
        "id": record.id,
        "status": record.exitstatus,
        **identity_fields(record),
    }


def _active_row(record: TaskRecord) -> dict[str, Any]:
    return {
        "upid": record.upid,
        "node": record.node,
        "pid": record.pid,
        "pstart": record.pstart,
        "starttime": record.starttime,
        "type": record.type,
        "id": record.id,
        "user": record.user,
        "status": "RUNNING",
        "saved": "0",
    }


@route("GET", "/nodes/{node}/tasks")
async def node_tasks(call: Call) -> Any:
    params = call.params
    source = params.get("source", "archive")
    sees_all = call.may(f"/nodes/{call.node}", "Sys.Audit")
    chosen = [
        record
        for record in reversed(call.sim.world.tasks.values())
        if record.node == call.node
        and (source == "all" or record.is_running == (source == "active"))
        and (sees_all or is_own(record, call.identity.authid))
        and _matches(record, params)
    ]
    running = [record for record in chosen if record.is_running]
    finished = sorted(
        (record for record in chosen if not record.is_running),
        key=lambda record: (record.starttime, record.endtime or 0),
        reverse=True,
    )
    start, limit = int(params.get("start", 0)), int(params.get("limit", DEFAULT_LIMIT))
    page = (running + finished)[start : start + limit]
    rows = [_active_row(r) if r.is_running else _archive_row(r) for r in page]
    return WithTotal(rows, len(chosen) or None)


def _matches(record: TaskRecord, params: dict[str, Any]) -> bool:
    status = record.exitstatus or ""
    kind = _status_kind(status)
    wanted = split_list(str(params.get("statusfilter", "")))
    return (
        ("vmid" not in params or record.id == str(params["vmid"]))
        and ("typefilter" not in params or record.type.startswith(str(params["typefilter"])))
        and ("userfilter" not in params or str(params["userfilter"]) in record.user)
        and ("since" not in params or record.starttime >= int(params["since"]))
        and ("until" not in params or record.starttime <= int(params["until"]))
        and (not params.get("errors") or kind in ("error", "warning"))
        and (not wanted or kind in wanted)
    )


def _status_kind(status: str) -> str:
    if status == "OK":
        return "ok"
    if status.startswith("WARNINGS: "):
        return "warning"
    return "unknown" if status in ("", "unexpected status") else "error"


def _require_own(call: Call, record: TaskRecord) -> None:
    """Somebody else's task needs Sys.Audit on the node."""
    if not is_own(record, call.identity.authid):
        call.require(f"/nodes/{call.node}", "Sys.Audit")


@route("GET", "/nodes/{node}/tasks/{upid}")
async def task_index(_call: Call) -> Any:
    return [{"name": "log"}, {"name": "status"}]


@route("GET", "/nodes/{node}/tasks/{upid}/status")
async def task_status(call: Call) -> Any:
    upid = str(call.params["upid"])
    record = call.sim.tasks.find(call.node, upid)
    _require_own(call, record)
    row: dict[str, Any] = {
        "upid": record.upid,
        "node": record.node,
        "pid": record.pid,
        "pstart": record.pstart,
        "starttime": record.starttime,
        "type": record.type,
        "id": record.id,
        "status": "running" if record.is_running else "stopped",
        **identity_fields(record),
    }
    if not record.is_running:
        row["exitstatus"] = record.exitstatus
    return row


@route("GET", "/nodes/{node}/tasks/{upid}/log")
async def task_log(call: Call) -> Any:
    upid = str(call.params["upid"])
    try:
        record = call.sim.tasks.find(call.node, upid)
    except PveError as error:
        if (error.errors or {}).get("upid") != "no such task":
            raise
        return WithTotal({"n": 1, "t": "unable to open file - No such file or directory"}, 1)
    _require_own(call, record)
    start, limit = int(call.params.get("start", 0)), int(call.params.get("limit", DEFAULT_LIMIT))
    lines = record.log[start:] if limit == 0 else record.log[start : start + limit]
    rows = [{"n": start + index + 1, "t": line} for index, line in enumerate(lines)]
    return WithTotal(rows or [{"n": 1, "t": "no content"}], len(record.log))


@route("DELETE", "/nodes/{node}/tasks/{upid}")
async def stop_task(call: Call) -> Any:
    upid = str(call.params["upid"])
    record = call.sim.tasks.find(call.node, upid)
    if not is_own(record, call.identity.authid):
        call.require(f"/nodes/{call.node}", "Sys.Modify")
    await call.sim.tasks.abort(record)
    return None
