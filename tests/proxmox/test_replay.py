"""The client's own methods, each against what a real Proxmox answered to the same request."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from proxmox import Client, Tls
from tests.proxmox.conftest import TOKEN, Authority
from tests.proxmox.recording import Exchange, by_name, exchanges
from tests.proxmox.replayed import REPLAYED, route_of
from tests.proxmox.server import Say, Seen, Server, serving
from tests.proxmox.test_classify import REFUSALS


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
    found = route_of(exchange)
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
    found = route_of(exchange)
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
