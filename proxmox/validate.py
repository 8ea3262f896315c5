"""What may go into a path or a value: everything is checked before anything is sent.

proxmoxer joins path segments as they come, `../` and `?` included. The shapes are those of the
API's own schema. Every function gives the value as text for the wire, or raises ValueError.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from proxmox.upid import Upid

VMID_MIN, VMID_MAX = 100, 999_999_999


def _shape(what: str, pattern: str, *, longest: int = 255) -> Callable[[object], str]:
    shape = re.compile(pattern)

    def check(value: object) -> str:
        if not isinstance(value, str) or len(value) > longest or not shape.fullmatch(value):
            raise ValueError(f"not {what}: {str(value)[:80]!r}")
        return value

    return check


def _one_of(what: str, *allowed: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in allowed:
            raise ValueError(f"not {what}: {str(value)[:80]!r} (one of {', '.join(allowed)})")
        return str(value)

    return check


def vmid(value: object) -> str:
    """A whole number from 100 to 999999999."""
    if not isinstance(value, int) or isinstance(value, bool) or not VMID_MIN <= value <= VMID_MAX:
        raise ValueError(f"not a VMID ({VMID_MIN} to {VMID_MAX}): {str(value)[:80]!r}")
    return str(value)


def upid(value: object) -> str:
    """A Upid, or its text."""
    return str(value if isinstance(value, Upid) else Upid.parse(str(value)))


def timeout_s(value: object) -> float:
    """A positive number of seconds."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 86_400:
        raise ValueError(f"not a timeout in seconds: {value!r}")
    return float(value)


node = _shape("a node name", r"[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?", longest=63)
storage = _shape("a storage ID", r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]", longest=100)
snapname = _shape("a snapshot name", r"[A-Za-z][A-Za-z0-9_-]+", longest=40)
disk = _shape(
    "a disk key", r"(ide[0-3]|scsi\d{1,2}|virtio\d{1,2}|sata[0-5]|unused\d{1,3}|efidisk0|tpmstate0)"
)
size = _shape("a disk size", r"\+?\d+(\.\d+)?[KMGT]?", longest=30)
pool = _shape("a pool ID", r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,2}", longest=128)
option = _shape("an option name", r"[A-Za-z][A-Za-z0-9_-]*", longest=64)
# Quotes and line ends would break out of the upload's header; a leading dot hides the file.
filename = _shape("a file name", r"[A-Za-z0-9_][A-Za-z0-9_.+@,=~ -]*")
acl_path = _shape("an ACL path", r"/|(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+")
task_type = _shape("a task type", r"[a-z0-9_-]+", longest=64)
timeframe = _one_of("a time frame", "hour", "day", "week", "month", "year")
consolidation = _one_of("a consolidation", "AVERAGE", "MAX")
feature = _one_of("a feature", "snapshot", "clone", "copy")
task_source = _one_of("a task source", "active", "archive", "all")
upload_content = _one_of("a content type", "iso", "vztmpl", "import")
content = _shape("a content type", r"[a-z]+(,[a-z]+)*", longest=80)
image_format = _one_of("an image format", "raw", "qcow2", "vmdk")
storage_map = _shape(
    "a storage or a mapping of storages",
    r"1|[A-Za-z][A-Za-z0-9_.:-]*[A-Za-z0-9](,[A-Za-z][A-Za-z0-9_.:-]*[A-Za-z0-9])*",
)

_VOLUME = _shape("a volume ID", r"[A-Za-z][A-Za-z0-9_.-]*[A-Za-z0-9]:[^\s%?#\\\x00-\x1f\x7f]+")


def volume(value: object) -> str:
    """`storage:path`, the path without `..`."""
    text = _VOLUME(value)
    if {"", ".", ".."} & set(text.split(":", 1)[1].split("/")):
        raise ValueError(f"not a volume ID: {text[:80]!r}")
    return text


SEGMENTS: Mapping[str, Callable[[object], str]] = {
    "node": node,
    "vmid": vmid,
    "storage": storage,
    "volume": volume,
    "snapname": snapname,
    "upid": upid,
}


def wire_value(name: str, value: object) -> str:
    """A parameter's value as text: booleans become 1 and 0, which is all that Proxmox reads."""
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float | Upid):
        return str(value)
    if not isinstance(value, str) or "\x00" in value:
        # Without the value: it may be a password.
        raise ValueError(f"parameter {name!r} is no text, number or boolean")
    return value


def wire_values(values: Mapping[str, object]) -> dict[str, str]:
    """Parameters as text, those that are None left out."""
    return {
        option(name): wire_value(name, value) for name, value in values.items() if value is not None
    }


def option_list(names: Iterable[str]) -> str | None:
    """Option names as the comma-separated list that Proxmox wants; None for an empty one."""
    return ",".join(option(name) for name in names) or None
