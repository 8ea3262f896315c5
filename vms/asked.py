"""What a request asked for, checked in shape and put into the words the plans use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CloudInit:
    """Cloud-init as Proxmox takes it; the password never shows."""

    user: str = ""
    password: str = field(default="", repr=False)
    ssh_keys: tuple[str, ...] = ()
    ip_config: str = ""
    dns: tuple[str, ...] = ()
    searchdomain: str = ""
    # A cloud-init script or configuration of the person's own; it may hold secrets.
    user_data: str = field(default="", repr=False)

    @property
    def is_empty(self) -> bool:
        return self == CloudInit()

    def shown(self) -> dict[str, Any]:
        """As the API shows it: of secrets only that they are set."""
        secrets = {"password_set": bool(self.password), "user_data_set": bool(self.user_data)}
        return self.without_secret() | {name: True for name, is_set in secrets.items() if is_set}

    def without_secret(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "user": self.user,
            "ssh_keys": list(self.ssh_keys),
            "ip_config": self.ip_config,
            "dns": list(self.dns),
            "searchdomain": self.searchdomain,
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class NewVm:
    """A VM to be made, from a template. None and "" mean: not asked for."""

    name: str
    template: str = ""
    # … or from an ISO, with an empty disk, or from a cloud image.
    os_template: str = ""
    # linux, windows or other; "": the template's, or linux.
    os_type: str = ""
    size: str = ""
    cores: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    cluster: str = ""
    node: str = ""
    network: str = ""
    storage: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    cloud_init: CloudInit = field(default_factory=CloudInit)
    linked: bool = False
    start_on_create: bool = True
    is_protected: bool = False
    keep: bool = False
    # A batch of so many, numbered; None: one VM under its own name.
    count: int | None = None
    # With how many of a batch the caller is content, where not all fit.
    min_count: int | None = None


@dataclass(frozen=True)
class CloneOf:
    """A VM to be made from another; what is not named stays as the other has it."""

    name: str
    linked: bool = False
    node: str = ""
    storage: str = ""
    size: str = ""
    cores: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    network: str = ""
    description: str | None = None
    tags: tuple[str, ...] | None = None
    metadata: dict[str, str] | None = None
    cloud_init: CloudInit = field(default_factory=CloudInit)
    is_protected: bool = False
    start_on_create: bool = False


@dataclass(frozen=True)
class VmChanges:
    """What a PATCH named; None: it did not."""

    name: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    metadata: dict[str, str] | None = None
    is_protected: bool | None = None
    # The name of the project that gets it; "" takes it from the one that has it.
    project: str | None = None
    size: str | None = None
    cores: int | None = None
    memory_mib: int | None = None
    disk_gib: int | None = None
    network: str | None = None
    cloud_init: CloudInit | None = None


@dataclass(frozen=True)
class NewTemplate:
    """A template to be made of a cloud image, fetched (`url`) or on a storage (`volume`)."""

    name: str
    # It may carry a signature that gives access.
    url: str = field(default="", repr=False)
    volume: str = ""
    format: str = "qcow2"
    checksum: str = ""
    algorithm: str = ""
    os_type: str = "linux"
    cluster: str = ""
    node: str = ""
    storage: str = ""
    image_storage: str = ""
    cores: int = 1
    memory_mib: int = 1024
    # GiB to grow the disk to; None: as large as the image's.
    disk_gib: int | None = None
    network: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    user: str = ""
