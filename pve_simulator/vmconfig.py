"""A VM's configuration: showing it, its pending changes, and applying new values.

Config values have the types that Proxmox answers with: integers for integer and boolean options,
strings for everything else.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from . import drives, schema
from .errors import PveError, bad_parameter
from .formats import decode_ssh_keys, is_public_key, split_list
from .simulator import Simulator
from .text import words
from .world import Config, Guest

ROOT_ONLY = ("args", "lock", "hookscript")
"""Options that only the password ticket of root@pam may set."""

FAST_PLUG = frozenset(
    words(
        "lock name onboot shares startup description protection vmstatestorage hookscript tags",
        "cicustom ciuser cipassword ciupgrade citype nameserver searchdomain sshkeys",
    )
)
"""Options that a running VM takes at once."""

CLOUDINIT_KEYS = frozenset(
    words("cicustom ciuser cipassword ciupgrade citype nameserver searchdomain sshkeys")
)
SECRET_MASK = "**********"  # noqa: S105 (what Proxmox shows instead of it)
NOT_OPTIONS = frozenset(
    words(
        "node vmid delete digest revert skiplock force background_delay import-working-storage",
        "archive bwlimit live-restore pool start storage unique",
    )
)


@dataclass(slots=True)
class Changes:
    """What a config call asks for: values to set, options to delete, pending ones to revert."""

    values: Config
    delete: list[str] = field(default_factory=list)
    revert: list[str] = field(default_factory=list)
    digest: str | None = None
    force: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.values and not self.delete and not self.revert


def read_changes(params: dict[str, Any], *, is_root: bool) -> Changes:
    """Sort and check a call's parameters; raises what Proxmox refuses before it looks at the VM."""
    values = {key: value for key, value in params.items() if key not in NOT_OPTIONS}
    changes = Changes(
        values,
        split_list(str(params.get("delete", ""))),
        split_list(str(params.get("revert", ""))),
        params.get("digest"),
        bool(params.get("force")),
    )
    if params.get("skiplock") and not is_root:
        raise bad_parameter("skiplock", "Only root may use this option.")
    for name in (*values, *changes.delete):
        if name in ROOT_ONLY and not is_root:
            raise PveError(f"only root can set '{name}' config")
    for name in (*changes.delete, *changes.revert):
        if schema.option_facts(name) is None:
            raise bad_parameter(
                "delete" if name in changes.delete else "revert", f"unknown option '{name}'"
            )
    if "sshkeys" in values and not all(map(is_public_key, decode_ssh_keys(values["sshkeys"]))):
        raise PveError("SSH public key validation error")
    return changes


def digest_of(config: Config) -> str:
    text = "\n".join(f"{key}: {config[key]}" for key in sorted(config))
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def guest_digest(guest: Guest) -> str:
    merged: Config = dict(guest.config)
    merged |= {f"pending.{key}": value for key, value in guest.pending.items()}
    merged |= {f"delete.{key}": 1 for key in guest.pending_delete}
    merged |= {f"snapshot.{name}": s.description for name, s in guest.snapshots.items()}
    return digest_of(merged)


def shown(guest: Guest, *, is_current: bool) -> Config:
    """The config as GET answers it: with pending values applied unless `is_current`."""
    config = dict(guest.config)
    if not is_current:
        config.update(guest.pending)
        for key in guest.pending_delete:
            config.pop(key, None)
    if guest.parent is not None:
        config["parent"] = guest.parent
    config["digest"] = guest_digest(guest)
    return masked(config)


def masked(config: Config) -> Config:
    return config | {"cipassword": SECRET_MASK} if "cipassword" in config else config


def pending_list(guest: Guest) -> list[Config]:
    rows: list[Config] = []
    for key, value in masked(guest.config).items():
        row: Config = {"key": key, "value": value}
        if key in guest.pending:
            row["pending"] = SECRET_MASK if key == "cipassword" else guest.pending[key]
        if key in guest.pending_delete:
            row["delete"] = 1
        rows.append(row)
    for key, value in guest.pending.items():
        if key not in guest.config:
            rows.append({"key": key, "pending": SECRET_MASK if key == "cipassword" else value})
    rows.append({"key": "digest", "value": guest_digest(guest)})
    return rows


def require_unlocked(guest: Guest, *, besides: tuple[str, ...] = ()) -> None:
    if guest.lock and guest.lock not in besides:
        raise PveError(f"VM is locked ({guest.lock})")


def require_digest(guest: Guest, digest: str | None) -> None:
    if digest and digest != guest_digest(guest):
        raise PveError("checksum mismatch (file change by other user?)")


def normalised(sim: Simulator, key: str, value: Any) -> Any:
    """The value as the config file keeps it (drives aside)."""
    if key == "tags":
        return ";".join(sorted({tag.lower() for tag in split_list(str(value))}))
    if drives.NET.match(key):
        net = drives.parse_net(str(value))
        if not net.mac:
            net.mac = sim.new_mac()
        return str(net)
    if key == "cipassword":
        return encrypted(sim, str(value))
    if key == "vmgenid" and str(value) == "1":
        return sim.new_uuid()
    if key == "smbios1" and "uuid=" not in str(value):
        return f"uuid={sim.new_uuid()},{value}".rstrip(",")
    return value


def encrypted(sim: Simulator, password: str) -> str:
    """A password in the look of a crypt(3) hash, which is what the config keeps."""
    salt = f"{sim.random.getrandbits(48):012x}"
    digest = hashlib.sha256((salt + password).encode()).digest()
    return f"$5${salt}${base64.b64encode(digest).decode()}"


def set_value(guest: Guest, key: str, value: Any) -> None:
    """Apply a value now, or leave it pending when a running VM cannot take it."""
    guest.pending_delete.discard(key)
    if not guest.is_running or is_hotpluggable(key):
        guest.pending.pop(key, None)
        guest.config[key] = value
        if guest.is_running:
            guest.running_config[key] = value
    elif guest.config.get(key) == value:
        guest.pending.pop(key, None)
    else:
        guest.pending[key] = value


def is_hotpluggable(key: str) -> bool:
    if key in FAST_PLUG or re.match(r"(net|unused|ipconfig)\d", key):
        return True
    return bool(re.match(r"(scsi|virtio|ide|sata)\d", key))


def unset_value(guest: Guest, key: str) -> None:
    guest.pending.pop(key, None)
    if key not in guest.config:
        return
    if not guest.is_running or is_hotpluggable(key):
        guest.config.pop(key)
        guest.running_config.pop(key, None)
    else:
        guest.pending_delete.add(key)


def apply_pending(guest: Guest) -> None:
    """What happens when the VM is down: pending values become the config."""
    guest.config.update(guest.pending)
    for key in guest.pending_delete:
        guest.config.pop(key, None)
    guest.pending = {}
    guest.pending_delete = set()


def revert_pending(guest: Guest, names: list[str]) -> None:
    for name in names:
        guest.pending.pop(name, None)
        guest.pending_delete.discard(name)


def next_unused(config: Config) -> str:
    index = 0
    while f"unused{index}" in config:
        index += 1
    return f"unused{index}"
