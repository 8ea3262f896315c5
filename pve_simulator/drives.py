"""Reading and writing VM options that are `key=value,…` strings: drives, networks, sizes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from .world import GIB, Config

DRIVE = re.compile(
    r"(ide[0-3]|sata[0-5]|scsi(?:[12]?\d|30)|virtio(?:\d|1[0-5])|efidisk0|tpmstate0)\Z"
)
UNUSED = re.compile(r"unused\d{1,3}\Z")
NET = re.compile(r"net\d{1,2}\Z")
NET_MODELS = [
    "e1000",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "virtio",
    "vmxnet3",
]
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


@dataclass(slots=True)
class Drive:
    """A drive option: `file` is a volume id, `none`, `cdrom` or (to be made) `STORAGE:SIZE`."""

    key: str
    file: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def is_cdrom(self) -> bool:
        return self.options.get("media") == "cdrom"

    @property
    def is_cloudinit(self) -> bool:
        return bool(re.search(r"(?:\bvm-\d+-cloudinit(?:\.\w+)?|:cloudinit)\Z", self.file))

    @property
    def is_volume(self) -> bool:
        return ":" in self.file and not self.file.startswith("/")

    @property
    def storage(self) -> str:
        return self.file.split(":", 1)[0]

    def __str__(self) -> str:
        """Options in alphabetical order, as Proxmox writes them."""
        return ",".join([self.file, *(f"{k}={v}" for k, v in sorted(self.options.items()))])


def parse_drive(key: str, text: str) -> Drive:
    file, options = "", {}
    for part in str(text).split(","):
        name, equals, value = part.partition("=")
        if not equals:
            file = part
        elif name in ("file", "volume"):
            file = value
        else:
            options[name] = value
    return Drive(key, file, options)


def drives_of(config: Config, *, with_cdroms: bool = True) -> list[Drive]:
    """The config's drives in the order of their names."""
    found = [parse_drive(key, config[key]) for key in sorted(config) if DRIVE.match(key)]
    return [d for d in found if with_cdroms or not d.is_cdrom or d.is_cloudinit]


def disks_of(config: Config) -> list[Drive]:
    """Real disks only: no CD-ROM, no cloud-init drive."""
    return [drive for drive in drives_of(config) if not drive.is_cdrom and not drive.is_cloudinit]


def parse_size(text: str) -> int:
    """Bytes of "10G", "512M", "1.5T", "100" (bytes)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)", text)
    if match is None:
        raise ValueError(f"no size: {text}")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def format_size(size: int) -> str:
    """The largest unit that divides the size without a rest."""
    for unit in ("T", "G", "M", "K"):
        if size >= _UNITS[unit] and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def human_size(size: float) -> str:
    """As progress lines show it: "30.8 MiB"."""
    units = ["B", "KiB", "MiB", "GiB", "TiB"]
    index = 0
    while size >= 1024 and index < len(units) - 1:
        size /= 1024
        index += 1
    return f"{size:.1f} {units[index]}"


def boot_order(config: Config) -> list[str]:
    match = re.search(r"order=([^,]*)", str(config.get("boot", "")))
    return [device for device in match.group(1).split(";") if device] if match else []


def boot_disk(config: Config) -> Drive | None:
    """The first disk of the boot order, else the first disk there is."""
    disks = {drive.key: drive for drive in disks_of(config)}
    for key in boot_order(config):
        if key in disks:
            return disks[key]
    if boot_order(config):
        return None
    order = sorted(disks, key=lambda key: (["ide", "scsi", "virtio", "sata"].index(_bus(key)), key))
    return disks[order[0]] if order else None


def _bus(key: str) -> str:
    bus = re.sub(r"\d+$", "", key)
    return bus if bus in ("ide", "scsi", "virtio") else "sata"


def drive_size(drive: Drive | None) -> int:
    return parse_size(drive.options["size"]) if drive and "size" in drive.options else 0


@dataclass(slots=True)
class Net:
    """A network option: model, MAC and the rest (`bridge`, `tag` …)."""

    model: str
    mac: str
    options: dict[str, str]

    def __str__(self) -> str:
        return ",".join(
            [f"{self.model}={self.mac}", *(f"{k}={v}" for k, v in self.options.items())]
        )


def parse_net(text: str) -> Net:
    model, mac, options = "", "", {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            model = part
        elif name in NET_MODELS:
            model, mac = name, value.upper()
        elif name == "model":
            model = value
        elif name == "macaddr":
            mac = value.upper()
        else:
            options[name] = value
    return Net(model, mac, dict(sorted(options.items())))


def memory_mib(config: Config) -> int:
    text = str(config.get("memory", 512))
    match = re.search(r"(?:current=)?(\d+)", text)
    return int(match.group(1)) if match else 512


def cpu_count(config: Config) -> int:
    cores = int(config.get("cores", 1)) * int(config.get("sockets", 1))
    return int(config.get("vcpus", cores))


def is_agent_enabled(config: Config) -> bool:
    first = str(config.get("agent", "0")).split(",", 1)[0]
    return first in ("1", "enabled=1") or "enabled=1" in str(config.get("agent", ""))


def property_fields(text: Any) -> dict[str, str]:
    """`ip=dhcp,gw=…` as a dict."""
    return dict(part.split("=", 1) for part in str(text).split(",") if "=" in part)


def new_disk_bytes(file: str) -> int | None:
    """The size when a drive's file asks for a new disk (`STORAGE:32` in GiB), else None."""
    match = re.fullmatch(r"[^:/]+:(\d+(?:\.\d+)?)", file)
    return int(float(match.group(1)) * GIB) if match else None
