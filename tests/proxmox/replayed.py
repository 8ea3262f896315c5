"""Which of the client's methods makes which recorded request."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from proxmox import Client, Upid
from proxmox.results import (
    AgentInterface,
    Bridge,
    ClusterStatus,
    GuestConfig,
    GuestStatus,
    GuestUsage,
    NodeStatus,
    NodeUsage,
    PendingOption,
    Resources,
    Snapshot,
    StorageContent,
    StorageUsage,
    TaskEntry,
    TaskStatus,
    UsagePoint,
    Version,
    VncTicket,
)
from tests.proxmox.recording import Exchange, exchanges
from tests.proxmox.test_classify import NOT_REFUSALS

Call = Callable[[Client, dict[str, Any], dict[str, Any], dict[str, Any]], object]
NODE = r"/nodes/(?P<node>[\w-]+)"
GUEST = NODE + r"/qemu/(?P<vmid>\d+)"
STORAGE = NODE + r"/storage/(?P<storage>[\w-]+)"
TASK = NODE + r"/tasks/(?P<upid>UPID:[^/]*)"


def _where(path: dict[str, Any]) -> tuple[str, int]:
    return path["node"], int(path["vmid"])


def _plain(form: dict[str, Any]) -> dict[str, Any]:
    """What a caller says: the recording holds keys as they went over the wire."""
    return {k: unquote(v) if k == "sshkeys" else v for k, v in form.items()}


def _clone(client: Client, path: dict[str, Any], query: Any, form: dict[str, Any]) -> object:
    options = dict(form)
    full = bool(options.pop("full", 0))
    return client.clone_guest(*_where(path), full=full, **options)


def _configure(method: str) -> Call:
    def call(client: Client, path: dict[str, Any], query: Any, form: dict[str, Any]) -> object:
        changes = _plain(form)
        gone = [name for name in str(changes.pop("delete", "")).split(",") if name]
        digest = changes.pop("digest", None)
        change = getattr(client, method)
        return change(*_where(path), changes=changes, delete=gone, digest=digest)

    return call


def _power(verb: str) -> Call:
    def call(client: Client, path: dict[str, Any], query: Any, form: dict[str, Any]) -> object:
        names = {
            "timeout": f"{verb}_timeout_s",
            "forceStop": "force_stop",
            "todisk": "to_disk",
        }
        options = {names[key]: value for key, value in form.items()}
        return getattr(client, verb)(*_where(path), **options)

    return call


def _download(client: Client, path: dict[str, Any], query: Any, form: dict[str, Any]) -> object:
    options = {name.replace("-", "_"): value for name, value in form.items()}
    return client.download_url(path["node"], path["storage"], **options)


def _upload(client: Client, path: dict[str, Any], query: Any, form: dict[str, Any]) -> object:
    return client.upload(
        path["node"], path["storage"], filename=form["filename"], file=io.BytesIO(b"an image")
    )


# Method, path, the call, and the type of its result (of each item, where it is a tuple).
ROUTES: tuple[tuple[str, str, Call, type], ...] = (
    ("GET", r"/version", lambda c, p, q, f: c.version(), Version),
    ("GET", r"/cluster/status", lambda c, p, q, f: c.cluster_status(), ClusterStatus),
    ("GET", r"/cluster/resources", lambda c, p, q, f: c.resources(), Resources),
    ("GET", r"/cluster/nextid", lambda c, p, q, f: c.vmid_is_free(int(q["vmid"])), bool),
    ("GET", r"/nodes", lambda c, p, q, f: c.nodes(), NodeUsage),
    ("GET", NODE + "/status", lambda c, p, q, f: c.node_status(p["node"]), NodeStatus),
    ("GET", NODE + "/storage", lambda c, p, q, f: c.storages(p["node"]), StorageUsage),
    (
        "GET",
        STORAGE + "/content",
        lambda c, p, q, f: c.storage_content(p["node"], p["storage"], **q),
        StorageContent,
    ),
    ("GET", NODE + "/network", lambda c, p, q, f: c.networks(p["node"]), Bridge),
    ("GET", "/access/permissions", lambda c, p, q, f: c.permissions(**q), dict),
    ("GET", NODE + "/qemu", lambda c, p, q, f: c.guests(p["node"]), GuestUsage),
    ("GET", GUEST + "/status/current", lambda c, p, q, f: c.guest_status(*_where(p)), GuestStatus),
    (
        "GET",
        GUEST + "/config",
        lambda c, p, q, f: c.guest_config(*_where(p), current=bool(q.get("current"))),
        GuestConfig,
    ),
    ("GET", GUEST + "/pending", lambda c, p, q, f: c.guest_pending(*_where(p)), PendingOption),
    ("GET", GUEST + "/snapshot", lambda c, p, q, f: c.snapshots(*_where(p)), Snapshot),
    (
        "GET",
        GUEST + "/agent/network-get-interfaces",
        lambda c, p, q, f: c.agent_interfaces(*_where(p)),
        AgentInterface,
    ),
    (
        "GET",
        GUEST + "/rrddata",
        lambda c, p, q, f: c.rrddata(*_where(p), q["timeframe"]),
        UsagePoint,
    ),
    (
        "GET",
        NODE + "/rrddata",
        lambda c, p, q, f: c.rrddata(p["node"], None, q["timeframe"]),
        UsagePoint,
    ),
    (
        "GET",
        NODE + "/tasks",
        lambda c, p, q, f: c.tasks(p["node"], source=q.get("source", "archive")),
        TaskEntry,
    ),
    ("GET", TASK + "/status", lambda c, p, q, f: c.task_status(p["upid"]), TaskStatus),
    ("GET", TASK + "/log", lambda c, p, q, f: c.task_log(p["upid"], **q), str),
    ("DELETE", TASK, lambda c, p, q, f: c.abort_task(p["upid"]), type(None)),
    ("POST", NODE + "/qemu", lambda c, p, q, f: c.create_guest(p["node"], **_plain(f)), Upid),
    ("POST", GUEST + "/clone", _clone, Upid),
    ("PUT", GUEST + "/config", _configure("update_config"), type(None)),
    ("POST", GUEST + "/config", _configure("configure_async"), Upid),
    ("PUT", GUEST + "/resize", lambda c, p, q, f: c.resize_disk(*_where(p), **f), Upid),
    (
        "POST",
        GUEST + "/move_disk",
        lambda c, p, q, f: c.move_disk(*_where(p), **{**f, "delete": bool(f["delete"])}),
        Upid,
    ),
    *(
        ("POST", f"{GUEST}/status/{verb}", _power(verb), Upid)
        for verb in ("start", "stop", "shutdown", "reboot", "reset", "suspend", "resume")
    ),
    ("DELETE", GUEST, lambda c, p, q, f: c.delete_guest(*_where(p)), Upid),
    ("POST", GUEST + "/template", lambda c, p, q, f: c.convert_to_template(*_where(p)), Upid),
    ("POST", GUEST + "/migrate", lambda c, p, q, f: c.migrate(*_where(p), f["target"]), Upid),
    (
        "POST",
        GUEST + "/snapshot",
        lambda c, p, q, f: c.take_snapshot(
            *_where(p),
            f["snapname"],
            description=f.get("description"),
            with_ram=bool(f.get("vmstate")),
        ),
        Upid,
    ),
    (
        "POST",
        GUEST + r"/snapshot/(?P<name>\w+)/rollback",
        lambda c, p, q, f: c.rollback_snapshot(*_where(p), p["name"], start=bool(f)),
        Upid,
    ),
    (
        "DELETE",
        GUEST + r"/snapshot/(?P<name>\w+)",
        lambda c, p, q, f: c.delete_snapshot(*_where(p), p["name"]),
        Upid,
    ),
    ("POST", GUEST + "/vncproxy", lambda c, p, q, f: c.vncproxy(*_where(p)), VncTicket),
    ("POST", STORAGE + "/download-url", _download, Upid),
    ("POST", STORAGE + "/upload", _upload, Upid),
    (
        "DELETE",
        STORAGE + "/content/(?P<volume>.*)",
        lambda c, p, q, f: c.delete_volume(p["node"], p["volume"]),
        Upid,
    ),
)

# The client refuses to send these, or has no way to say them.
NOT_SAYABLE = {
    "045-plain-http",
    "060-cluster-resources-bad-type",
    "065-nextid-check-below-100",
    "087-create-missing-vmid",
    "090-create-vmid-too-small",
    "223-snapshot-bad-name",
    "280-resize-bad-size",
    "311-config-sshkeys-not-urlencoded",
    "312-config-sshkeys-plus-for-space",
    "392-clone-newid-missing",
    "517-locked-start-skiplock-non-root",
    "549-task-malformed-upid",
    "807-upload-snippet-refused",
    "854-rrddata-bad-timeframe",
    "872-delete-with-body",
}


def route_of(exchange: Exchange) -> tuple[Call, type, dict[str, Any]] | None:
    path = exchange.path.removeprefix("/api2/json")
    for method, pattern, call, kind in ROUTES:
        match = re.fullmatch(pattern, path)
        if match and method == exchange.method:
            return call, kind, match.groupdict()
    return None


def _has_body_of_ours(exchange: Exchange) -> bool:
    return exchange.sent is None or isinstance(exchange.sent, dict)


REPLAYED = [
    exchange
    for exchange in exchanges()
    if route_of(exchange)
    and exchange.path.startswith("/api2/json/")
    and exchange.name not in NOT_SAYABLE | NOT_REFUSALS
    and not (exchange.path.endswith("/nextid") and not exchange.query)
    and (_has_body_of_ours(exchange) or exchange.path.endswith("/upload"))
]
