"""The worlds that a simulator starts with: the demo cluster, and the recorded single node."""

from __future__ import annotations

import random
from collections.abc import Callable

from .drives import format_size
from .options import Options
from .world import GIB, MIB, Config, Guest, Node, Storage, Volume, World

UBUNTU_BYTES = 2252 * MIB
DEBIAN_BYTES = 2 * GIB
ROCKY_BYTES = 10 * GIB
CEPH_BYTES_S = 300 * MIB
_NAMES = ("web", "db", "cache", "worker", "ci", "mail", "git", "monitor")


def build_world(options: Options, rng: random.Random, now: float) -> World:
    return _WORLDS[options.world](options, rng, now)


def demo_cluster(options: Options, rng: random.Random, now: float) -> World:
    """Nodes with `local`, `local-lvm` and shared `ceph`; three templates; guests from 100 up."""
    world = World(options.cluster_name, is_clustered=len(options.nodes) > 1)
    for index, name in enumerate(options.nodes):
        node = Node(name, f"10.10.0.{index + 1}", index + 1, now - 86400 * (9 + index))
        if options.vms > 500:
            node.cpus, node.memory = 128, 1024 * GIB
        node.bridges = [_bridge("vmbr0", node.ip, 4), _bridge("vmbr1", "", 5)]
        world.nodes[name] = node
    _add_storages(world, options)
    for name in options.nodes:
        for iso, size in (
            ("debian-12.11.0-amd64-netinst.iso", 670),
            ("virtio-win-0.1.271.iso", 690),
        ):
            _add_image(world, name, f"local:iso/{iso}", "iso", size * MIB, now=now)
    maker = _Maker(world, rng, now)
    first, second = options.nodes[0], options.nodes[min(1, len(options.nodes) - 1)]
    maker.template(9000, "ubuntu-22.04", first, "ceph", UBUNTU_BYTES)
    maker.template(9001, "debian-12", first, "ceph", DEBIAN_BYTES)
    maker.template(9002, "rocky-9", second, "local-lvm", ROCKY_BYTES)
    for index in range(options.vms):
        maker.guest(index, options.nodes)
    return world


def _add_storages(world: World, options: Options) -> None:
    scale = max(1, options.vms // 200)
    images = ["images", "rootdir"]
    files = ["iso", "vztmpl", "backup", "snippets"]
    if options.pve_version != "7.4":
        files.append("import")
    world.storages = {
        "local": Storage("local", "dir", files, 94 * GIB, path="/var/lib/vz", base_used=9 * GIB),
        "local-lvm": Storage(
            "local-lvm",
            "lvmthin",
            images,
            800 * GIB * scale,
            options={"thinpool": "data", "vgname": "pve"},
        ),
        "ceph": Storage(
            "ceph",
            "rbd",
            images,
            4000 * GIB * scale * len(options.nodes) // 3,
            shared=True,
            copy_bytes_s=CEPH_BYTES_S,
            options={"pool": "ceph", "krbd": 0},
        ),
    }


def _bridge(iface: str, address: str, priority: int) -> Config:
    row: Config = {
        "iface": iface,
        "type": "bridge",
        "active": 1,
        "autostart": 1,
        "families": ["inet"],
        "method": "static" if address else "manual",
        "method6": "manual",
        "bridge_ports": "eno1" if address else "",
        "bridge_fd": "0",
        "bridge_stp": "off",
        "priority": priority,
    }
    if address:
        row |= {"address": address, "netmask": "24", "cidr": f"{address}/24"}
    else:
        row |= {"bridge_vlan_aware": 1, "bridge_vids": "2-4094"}
    return row


def _add_image(
    world: World, node: str, volid: str, content: str, size: int, *, now: float, inside: int = 0
) -> None:
    storage = world.storages[volid.split(":", 1)[0]]
    volume = Volume(
        volid, content, volid.rsplit(".", 1)[-1], size, size, int(now) - 86400, data=inside
    )
    volume.system = "linux" if content == "import" else ""
    world.volumes_of(storage, node)[volid] = volume


class _Maker:
    """Makes guests with everything that a real config has."""

    def __init__(self, world: World, rng: random.Random, now: float) -> None:
        self.world = world
        self.rng = rng
        self.now = now
        self.macs: set[str] = set()

    def template(self, vmid: int, name: str, node: str, storage: str, size: int) -> None:
        guest = self._guest(vmid, name, node, storage, size, disk="base")
        guest.config["template"] = 1
        guest.config["agent"] = "enabled=1"

    def guest(self, index: int, nodes: tuple[str, ...]) -> None:
        vmid = 100 + index + (3 if 100 + index >= 9000 else 0)
        node = nodes[index % len(nodes)]
        name = f"{_NAMES[index % len(_NAMES)]}-{index // len(_NAMES) + 1:02d}"
        storage = "ceph" if index % 3 else "local-lvm"
        guest = self._guest(vmid, name, node, storage, 20 * GIB)
        guest.config["cores"] = 1 + index % 4
        guest.config["memory"] = str(1024 * (1 + index % 3))
        if index % 2 == 0:
            guest.config["tags"] = "production" if index % 4 == 0 else "demo;test"
        if index % 4 == 2:
            return
        guest.is_running = True
        guest.is_paused = index % 8 == 5
        guest.booted_at = guest.os_started_at = self.now - 3600 * (1 + index % 200)
        guest.pid = self.world.allocate_pid()
        guest.running_config = dict(guest.config)

    def _guest(
        self, vmid: int, name: str, node: str, storage_name: str, size: int, *, disk: str = "vm"
    ) -> Guest:
        created = int(self.now) - 86400 * 5
        drive = self._volume(storage_name, node, f"{disk}-{vmid}-disk-0", vmid, size)
        drive.data = drive.used = min(size, UBUNTU_BYTES)
        drive.system = "linux"
        seed = self._volume(storage_name, node, f"vm-{vmid}-cloudinit", vmid, 4 * MIB)
        config: Config = {
            "agent": "1",
            "boot": "order=scsi0",
            "cores": 1,
            "ide2": f"{seed.volid},media=cdrom,size=4M",
            "ipconfig0": "ip=dhcp",
            "memory": "1024",
            "meta": f"creation-qemu=9.2.0,ctime={created}",
            "name": name,
            "net0": f"virtio={self._mac()},bridge=vmbr0",
            "ostype": "l26",
            "scsi0": f"{drive.volid},size={format_size(size)}",
            "scsihw": "virtio-scsi-single",
            "serial0": "socket",
            "smbios1": f"uuid={self._uuid()}",
            "vmgenid": self._uuid(),
        }
        guest = Guest(vmid, node, config)
        self.world.guests[vmid] = guest
        return guest

    def _volume(self, storage_name: str, node: str, label: str, vmid: int, size: int) -> Volume:
        storage = self.world.storages[storage_name]
        volume = Volume(
            f"{storage_name}:{label}", "images", "raw", size, 0, int(self.now) - 86400, vmid
        )
        self.world.volumes_of(storage, node)[volume.volid] = volume
        return volume

    def _mac(self) -> str:
        """Ten thousand draws of 24 bits would meet: none twice."""
        while (mac := self._any_mac()) in self.macs:
            continue
        self.macs.add(mac)
        return mac

    def _any_mac(self) -> str:
        return "BC:24:11:" + ":".join(f"{self.rng.randrange(256):02X}" for _ in range(3))

    def _uuid(self) -> str:
        text = f"{self.rng.getrandbits(128):032x}"
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def recorded_node(_options: Options, _rng: random.Random, now: float) -> World:
    """The single node that `exchanges.jsonl` was recorded on, before its first exchange."""
    world = World("", is_clustered=False)
    node = Node("pve1", "10.99.0.1", 0, now - 3334, cpus=2, memory=25276514304)
    node.nic = "eth0"
    node.root_size, node.root_used = 270553174016, 34158395392
    vmbr0 = _bridge("vmbr0", "10.99.0.1", 4) | {"bridge_ports": "", "comments": "test bridge\n"}
    node.bridges = [vmbr0, _bridge("vmbr1", "", 5)]
    world.nodes["pve1"] = node
    everything = ["backup", "snippets", "images", "iso", "vztmpl", "import", "rootdir"]
    for name, path, content in (
        ("local", "/var/lib/vz", everything),
        ("local-lvm", "/srv/local-lvm", ["rootdir", "images"]),
    ):
        size, used = 270553174016, 34158395392
        world.storages[name] = Storage(name, "dir", content, size, path=path, base_used=used)
    _add_image(world, "pve1", "local:iso/izvor-mini.iso", "iso", 13787136, now=now)
    image = "local:import/izvor-mini.qcow2"
    _add_image(world, "pve1", image, "import", 13959168, now=now, inside=64 * MIB)
    return world


_WORLDS: dict[str, Callable[[Options, random.Random, float], World]] = {
    "demo": demo_cluster,
    "recorded": recorded_node,
}
