"""Answers that the recording does not hold: clusters, old versions, odd configurations."""

from __future__ import annotations

import dataclasses

import pytest

from proxmox import Upid
from proxmox.results import (
    AgentInterface,
    Bridge,
    ClusterStatus,
    GuestConfig,
    GuestStatus,
    Resources,
    TaskEntry,
    Version,
)
from proxmox.results._read import size_bytes

UPID = "UPID:pve1:00000174:0005354B:6B03FB8B:qmstart:9000:izvor@pve!api:"


# -- tasks' names ----------------------------------------------------------------------------------


def test_a_upid_is_taken_apart_and_put_together():
    upid = Upid.parse(UPID)
    assert (upid.node, upid.pid, upid.pstart, upid.started_at) == (
        "pve1",
        0x174,
        0x5354B,
        0x6B03FB8B,
    )
    assert (upid.type, upid.id, upid.user, upid.tokenid) == ("qmstart", "9000", "izvor@pve", "api")
    assert str(upid) == UPID


@pytest.mark.parametrize(
    ("text", "id_", "user", "tokenid"),
    [
        ("UPID:pve-2:00001AF6:0005A25F:6B03FCA2:imgcopy::root@pam:", "", "root@pam", None),
        (
            "UPID:pve1:000002AE:000570AD:6B03FC23:imgdel:101@local:izvor@pve!api:",
            "101@local",
            "izvor@pve",
            "api",
        ),
        # A machine that is up for longer than 497 days counts in nine digits.
        (
            "UPID:pve1:00001AF6:10005A25F:6B03FCA2:download:mini.qcow2:a.b@ad:",
            "mini.qcow2",
            "a.b@ad",
            None,
        ),
    ],
)
def test_a_upid_may_have_no_id_and_no_token(text, id_, user, tokenid):
    upid = Upid.parse(text)
    assert (upid.id, upid.user, upid.tokenid, str(upid)) == (id_, user, tokenid, text)


def test_a_upid_is_a_value():
    assert Upid.parse(UPID) == Upid.parse(UPID)
    assert len({Upid.parse(UPID), Upid.parse(UPID)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        Upid.parse(UPID).node = "pve2"  # type: ignore[misc]


@pytest.mark.parametrize("text", ["", "UPID", UPID + "\n", UPID.replace("6B03FB8B", "6B03"), 7])
def test_what_is_no_upid(text):
    with pytest.raises(ValueError, match="not the name of a Proxmox task"):
        Upid.parse(text)


# -- clusters --------------------------------------------------------------------------------------


def test_a_real_cluster_has_a_name_and_a_quorum():
    status = ClusterStatus.from_api(
        [
            {"type": "cluster", "name": "home", "quorate": 0, "version": 5, "nodes": 2},
            {"type": "node", "name": "pve1", "online": 1, "local": 1, "ip": "10.0.0.1"},
            {"type": "node", "name": "pve2", "online": 0, "local": 0, "ip": "10.0.0.2"},
        ]
    )
    assert (status.name, status.is_quorate, status.version) == ("home", False, 5)
    assert [(node.name, node.is_online) for node in status.nodes] == [
        ("pve1", True),
        ("pve2", False),
    ]


def test_a_silent_node_does_not_break_the_list():
    """Its guests have lost their names and sizes; the storages on it are unknown."""
    resources = Resources.from_api(
        [
            {"type": "node", "node": "pve2", "status": "offline", "id": "node/pve2"},
            {"type": "qemu", "node": "pve2", "vmid": 100, "status": "unknown", "id": "qemu/100"},
            {"type": "storage", "node": "pve2", "storage": "local", "status": "unknown"},
            {"type": "lxc", "node": "pve2", "vmid": 101, "status": "running"},
            {"type": "network", "node": "pve2", "network": "localnetwork"},
        ]
    )
    (node,), (guest,), (storage,) = resources.nodes, resources.guests, resources.storages
    assert not node.is_online
    assert node.memory_bytes == 0
    assert (guest.name, guest.status, guest.is_template) == (None, "unknown", False)
    assert not storage.is_available


def test_an_ha_managed_guest_says_so():
    resources = Resources.from_api(
        [
            {
                "type": "qemu",
                "node": "pve1",
                "vmid": 100,
                "status": "running",
                "hastate": "started",
                "pool": "web",
                "tags": "b;a",
            }
        ]
    )
    (guest,) = resources.guests
    assert (guest.ha_state, guest.pool, guest.tags) == ("started", "web", frozenset("ab"))
    status = GuestStatus.from_api({"vmid": 100, "status": "running", "ha": {"managed": 1}})
    assert status.ha_managed
    assert status.is_running


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("8.4.21", (8, 4)), ("9.0.3", (9, 0)), ("7.4-3", (7, 4)), ("9", (9, 0)), ("6.4-13", (6, 4))],
)
def test_versions_have_numbers(text, numbers):
    version = Version.from_api({"version": text, "release": text[:3], "repoid": "x"})
    assert (version.major, version.minor) == numbers


# -- configurations --------------------------------------------------------------------------------


def test_an_empty_configuration_has_proxmoxs_defaults():
    config = GuestConfig.from_api({"digest": "abc"})
    assert (config.memory_mib, config.cores, config.sockets) == (512, 1, 1)
    assert config.name is None
    assert config.description == ""
    assert config.nics == ()
    assert config.boot_disk is None
    assert not config.agent_enabled


@pytest.mark.parametrize(
    ("value", "is_enabled"),
    [
        ("1", True),
        ("0", False),
        (1, True),
        ("enabled=1", True),
        ("enabled=0", False),
        ("1,fstrim_cloned_disks=1", True),
        ("fstrim_cloned_disks=1,enabled=1", True),
    ],
)
def test_the_agent_is_written_in_two_ways(value, is_enabled):
    assert GuestConfig.from_api({"agent": value}).agent_enabled is is_enabled


@pytest.mark.parametrize("memory", ["2048", 2048, "current=2048"])
def test_memory_is_a_number_however_written(memory):
    assert GuestConfig.from_api({"memory": memory}).memory_mib == 2048


def test_network_cards_in_order():
    config = GuestConfig.from_api(
        {
            "net10": "e1000=BC:24:11:00:00:0A,bridge=vmbr1,tag=20,firewall=1",
            "net2": "model=virtio,macaddr=bc:24:11:00:00:02,bridge=vmbr0",
            "net3": "virtio",
        }
    )
    assert [(nic.index, nic.model, nic.mac, nic.bridge, nic.vlan) for nic in config.nics] == [
        (2, "virtio", "BC:24:11:00:00:02", "vmbr0", None),
        (3, "virtio", None, None, None),
        (10, "e1000", "BC:24:11:00:00:0A", "vmbr1", 20),
    ]


DRIVES = {
    "ide2": "local-lvm:vm-100-cloudinit,media=cdrom",
    "ide3": "none,media=cdrom",
    "scsi0": "local-lvm:vm-100-disk-0,size=40G,ssd=1",
    "scsi10": "ceph:vm-100-disk-2,size=1T",
    "virtio1": "local:100/vm-100-disk-1.qcow2,size=366K",
    "efidisk0": "local-lvm:vm-100-disk-3,size=4M",
    "sata0": "/dev/disk/by-id/ata-1,size=1000204886016",
    "unused0": "local-lvm:vm-100-disk-9",
}


def test_drives_in_order_of_bus_and_number():
    config = GuestConfig.from_api(DRIVES)
    assert [disk.key for disk in config.disks] == [
        "scsi0",
        "scsi10",
        "virtio1",
        "sata0",
        "ide2",
        "ide3",
        "efidisk0",
    ]
    by_key = {disk.key: disk for disk in config.disks}
    assert by_key["scsi0"].size_bytes == 40 * 1024**3
    assert by_key["scsi10"].size_bytes == 1024**4
    assert by_key["virtio1"].size_bytes == 366 * 1024
    assert by_key["sata0"].storage is None
    assert by_key["ide2"].is_cloudinit
    assert by_key["ide3"].is_cdrom
    assert by_key["ide3"].storage is None
    assert not by_key["scsi0"].is_cloudinit


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"boot": "order=virtio1;scsi0"}, "virtio1"),
        ({"boot": "order=ide2;net0"}, "scsi0"),
        ({"boot": "c", "bootdisk": "virtio1"}, "virtio1"),
        ({}, "scsi0"),
    ],
)
def test_the_boot_disk_is_the_first_hard_disk_of_the_order(options, key):
    disk = GuestConfig.from_api({**DRIVES, **options}).boot_disk
    assert disk is not None
    assert disk.key == key


def test_what_has_no_field_is_in_raw_and_cannot_be_changed():
    config = GuestConfig.from_api({"scsihw": "virtio-scsi-pci"})
    assert config.raw["scsihw"] == "virtio-scsi-pci"
    with pytest.raises(TypeError):
        config.raw["scsihw"] = "x"  # type: ignore[index]


# -- the rest --------------------------------------------------------------------------------------


def test_an_interface_without_an_address_or_mac():
    tunnel = AgentInterface.from_api({"name": "tun0"})
    assert (tunnel.mac, tunnel.addresses) == (None, ())


def test_a_vnet_is_always_there():
    assert Bridge.from_api({"iface": "vnet1", "type": "vnet"}).is_active
    assert not Bridge.from_api({"iface": "vmbr1", "type": "bridge"}).is_active


def test_a_running_task_in_a_list_has_no_end():
    running = TaskEntry.from_api({"upid": UPID, "status": "RUNNING"})
    assert running.is_running
    assert running.exit_status is None
    ended = TaskEntry.from_api({"upid": UPID, "status": "WARNINGS: 2", "endtime": 1795423147})
    assert ended.is_ok
    assert not ended.is_running


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4M", 4 * 1024**2),
        ("1.5G", 1536 * 1024**2),
        ("4194304", 4194304),
        ("x", None),
        (None, None),
    ],
)
def test_sizes(text, size):
    assert size_bytes(text) == size
