"""The client's own methods, each against what a real Proxmox answered to the same request."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest

from proxmox import Client, Tls, Upid
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
from tests.proxmox.conftest import TOKEN, Authority
from tests.proxmox.recording import Exchange, by_name, exchanges
from tests.proxmox.server import Say, Seen, Server, serving
from tests.proxmox.test_classify import NOT_REFUSALS, REFUSALS

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


def _route(exchange: Exchange) -> tuple[Call, type, dict[str, Any]] | None:
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
    if _route(exchange)
    and exchange.path.startswith("/api2/json/")
    and exchange.name not in NOT_SAYABLE | NOT_REFUSALS
    and not (exchange.path.endswith("/nextid") and not exchange.query)
    and (_has_body_of_ours(exchange) or exchange.path.endswith("/upload"))
]


@pytest.fixture(scope="module")
def stage(authority: Authority) -> Iterator[tuple[Server, Client]]:
    """One server and one client for all replays; each test sets the answer."""
    with serving(authority.server_context(), lambda seen: Say()) as server:
        client = Client([server.url], TOKEN, tls=Tls.from_ca(authority.ca_pem), timeout_s=10)
        yield server, client
        client.close()


@pytest.mark.parametrize("exchange", REPLAYED, ids=lambda exchange: exchange.name)
def test_the_client_asks_and_understands(exchange: Exchange, stage: tuple[Server, Client]):
    server, client = stage
    server.seen.clear()
    server.answer = lambda seen: Say(exchange.body, exchange.status, exchange.reason)
    found = _route(exchange)
    assert found is not None
    call, kind, path = found
    form = {"filename": "izvor-ci.iso"} if exchange.path.endswith("/upload") else exchange.sent

    if exchange.status == 200 or exchange.path.endswith("/nextid"):
        _check_result(call(client, path, exchange.query, form or {}), kind)
    else:
        with pytest.raises(REFUSALS[exchange.name][0]) as raised:
            call(client, path, exchange.query, form or {})
        assert raised.value.status == exchange.status

    (seen,) = server.seen
    assert (seen.method, seen.path) == (exchange.method, exchange.path)
    if isinstance(exchange.sent, dict):
        assert seen.form == {**_always_said(seen), **_on_the_wire(exchange.sent)}


def _always_said(seen: Seen) -> dict[str, str]:
    if seen.path.endswith("/clone"):
        return {"full": "0"}
    return {"delete": "0"} if seen.path.endswith("/move_disk") else {}


def _on_the_wire(sent: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in sent.items()}


def _check_result(result: object, kind: type) -> None:
    items = result if isinstance(result, tuple | list) else [result]
    assert all(isinstance(item, kind) for item in items)


def test_most_of_the_recording_was_replayed():
    assert len(REPLAYED) > 600


# -- what the answers mean -------------------------------------------------------------------------


def read(stage: tuple[Server, Client], name: str) -> Any:
    server, client = stage
    exchange = by_name(name)
    server.answer = lambda seen: Say(exchange.body, exchange.status, exchange.reason)
    found = _route(exchange)
    assert found is not None
    call, _, path = found
    return call(client, path, exchange.query, exchange.sent or {})


def test_a_vmid_in_use_is_not_free(stage):
    assert read(stage, "106-nextid-check-used") is False
    assert read(stage, "064-nextid-check-free") is True


def test_the_configuration_of_a_finished_vm(stage):
    config = read(stage, "842-pipe-config-final")
    assert config.name == "my-server"
    assert config.description == "hello\n<!-- izvor:7b1c -->"
    assert (config.memory_mib, config.cores, config.sockets) == (512, 2, 1)
    assert config.tags == {"production", "web"}
    assert config.smbios_uuid == "e1d102bb-de33-4887-b592-876e464a1f01"
    assert config.digest == "3e0887452e63f81cf7113aa40a3a617816f01404"
    assert config.agent_enabled
    assert not config.is_template
    assert config.lock is None
    assert config.ipconfig0 == "ip=10.99.0.77/24,gw=10.99.0.1"
    assert config.nameserver == "10.99.0.1 1.1.1.1"
    assert config.sshkeys == (
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGZLmW3l8sH0l8v5X6cQb9u4VtC1m2n3o4p5q6r7s8t9 me@host\n"
    )
    (nic,) = config.nics
    assert (nic.index, nic.model, nic.mac, nic.bridge, nic.vlan) == (
        0,
        "virtio",
        "BC:24:11:47:50:BA",
        "vmbr0",
        None,
    )
    disk, cloudinit = config.disks
    assert (disk.key, disk.storage, disk.size_bytes) == ("scsi0", "local", 3 * 1024**3)
    assert cloudinit.is_cdrom
    assert cloudinit.is_cloudinit
    assert config.boot_disk is disk


def test_what_waits_for_the_next_start(stage):
    pending = {each.key: each for each in read(stage, "857-pipe-pending") if each.is_pending}
    assert {key: (each.value, each.pending) for key, each in pending.items()} == {
        "memory": ("512", "768"),
        "cores": ("2", "1"),
    }


def test_the_state_of_a_running_guest(stage):
    status = read(stage, "849-pipe-status")
    assert status.is_running
    assert not status.is_stopped
    assert (status.vmid, status.status, status.qmp_status) == (120, "running", "running")
    assert status.agent_enabled
    assert not status.ha_managed
    assert status.disk_bytes == 3 * 1024**3


def test_a_guest_suspended_to_disk_is_stopped_and_locked(stage):
    status = read(stage, "205-status-current-suspended")
    assert status.is_stopped
    assert status.lock == "suspended"


def test_a_paused_guest_is_not_running(stage):
    paused = [
        read(stage, each.name)
        for each in exchanges()
        if re.search(r"/qemu/\d+/status/current$", each.path)
        and each.status == 200
        and each.body["data"].get("qmpstatus") == "paused"
    ]
    assert paused
    assert all(status.is_paused and not status.is_running for status in paused)
    assert {status.status for status in paused} == {"running"}


def test_the_snapshots_form_a_tree_with_the_present_at_its_tip(stage):
    snapshots = {each.name: each for each in read(stage, "236-snapshot-list-tree")}
    assert {each.name: each.parent for each in snapshots.values()} == {
        "clean": None,
        "withram": "clean",
        "noram": "withram",
        "current": "noram",
    }
    assert snapshots["current"].is_current
    assert snapshots["current"].created_at is None
    assert [name for name, each in snapshots.items() if each.has_ram] == ["withram"]
    assert snapshots["clean"].created_at == 1795423085


def test_addresses_come_by_interface(stage):
    interfaces = {each.name: each for each in read(stage, "848-pipe-agent-network")}
    eth0 = interfaces["eth0"]
    assert eth0.mac == "bc:24:11:47:50:ba"
    assert [(each.ip, each.prefix, each.family) for each in eth0.addresses] == [
        ("10.99.0.86", 24, 4),
        ("fe80::be24:11ff:fe47:50ba", 64, 6),
    ]


def test_everything_in_the_cluster(stage):
    resources = read(stage, "058-cluster-resources")
    (node,) = resources.nodes
    assert (node.name, node.is_online, node.cores) == ("pve1", True, 2)
    local, lvm = resources.storages
    assert (local.storage, local.node, local.plugin_type) == ("local", "pve1", "dir")
    assert "iso" in local.content
    assert local.is_available
    assert not lvm.is_shared
    assert resources.guests == ()


def test_a_guest_being_cloned_shows_its_lock_in_the_list(stage):
    guests = {each.vmid: each for each in read(stage, "419-during-clone-cluster-resources").guests}
    assert guests[110].lock == "clone"
    assert guests[110].node == "pve1"
    assert guests[100].tags == {"bad", "ok", "tag"}
    assert [vmid for vmid, each in guests.items() if each.is_template] == [9000]


def test_a_standalone_node_is_a_quorate_cluster_without_a_name(stage):
    status = read(stage, "061-cluster-status")
    assert status.name is None
    assert status.is_quorate
    assert [(node.name, node.is_local, node.is_online) for node in status.nodes] == [
        ("pve1", True, True)
    ]


def test_warnings_are_a_success(stage):
    status = read(stage, "296-start-with-warning-task-status")
    assert status.is_ok
    assert status.warnings == 1
    assert not status.is_running


def test_a_running_task_has_no_exit_status(stage):
    status = read(stage, "342-reboot-os-task-status-running")
    assert status.is_running
    assert status.exit_status is None
    assert not status.is_ok


def test_a_task_list_holds_the_second_task_of_a_reboot(stage):
    newest, reboot, *_ = read(stage, "347-tasks-after-reboot")
    assert (newest.upid.type, newest.upid.user, newest.upid.tokenid) == (
        "qmstart",
        "root@pam",
        None,
    )
    assert (reboot.upid.type, reboot.upid.tokenid) == ("qmreboot", "api")
    assert newest.ended_at == 1795423147
    assert newest.is_ok


def test_an_unknown_task_has_no_log(stage):
    assert read(stage, "551-task-unknown-upid-log") == []


def test_a_console_ticket_names_the_endpoint_that_answered(stage):
    server, _ = stage
    ticket = read(stage, "850-vncproxy-websocket-password")
    assert ticket.endpoint.port == server.port
    assert ticket.port == 5900
    assert ticket.password == '&,(1K"30'
    assert ticket.path == (
        "/api2/json/nodes/pve1/qemu/120/vncwebsocket"
        "?port=5900&vncticket=%26%2C%281K%2230%3APVEVNC%3A6B040390%3A%3A%3Csignature%3E"
    )
    assert ticket.headers == {
        "Authorization": f"PVEAPIToken=izvor@pve!api={TOKEN.secret}",
    }


def test_privileges_come_by_path(stage):
    assert read(stage, "041-token-permissions") == {
        "/vms/100": {
            "VM.Config.CDROM",
            "VM.Backup",
            "VM.Config.Cloudinit",
            "VM.Console",
            "VM.PowerMgmt",
            "VM.Audit",
        }
    }


def test_moments_without_a_measurement_are_kept_as_such(stage):
    points = read(stage, "851-rrddata-vm-hour")
    assert points[0].at == 1795420980
    assert points[0].cpu_fraction is None
    measured = [point for point in points if point.memory_bytes is not None]
    assert measured
    assert {point.memory_bytes for point in measured} == {268435456.0}
