"""Compares a recorded answer with a simulated one: keys, types and normalised texts.

Numbers are compared by type only (whole and fractional ones count as the same). Texts are compared
after ids, addresses, moments and the like are replaced; texts that are secrets or random are not.
Rows of a list are matched by their identity (VMID, name, key …); rows of logs and task lists, which
depend on timing, by the shape of a row and, for a log, its last line.
"""

from __future__ import annotations

import re
from typing import Any

from pve_simulator.text import words

IDENTITIES = words(
    "vmid volid storage iface tokenid roleid realm key subdir ugid name id",
)
"""What rows are matched by, the first that the recorded ones have."""

RANDOM = frozenset(
    words(
        "digest ticket cert CSRFPreventionToken value password ssl_fingerprint upid",
        "vmgenid smbios1 meta flags hvm kversion pveversion model repoid release mhz",
        "current-kernel.version running-qemu running-machine runningmachine pbs-library-version",
    )
)
"""Texts that are secrets, ids or the recorded machine's own."""

OPTIONAL = frozenset(["idle_time_ns"])
"""There or not depending on the moment: a disk that did nothing yet has no idle time."""

_REPLACEMENTS = (
    (r"vzdump-qemu-(\d+)-[\d_-]+\.vma", r"vzdump-qemu-\1.vma"),
    (r"UPID:[^\s'\"]+:", "UPID"),
    (r"BC:24:11(:[0-9A-F]{2}){3}", "MAC"),
    (r"bc:24:11(:[0-9a-f]{2}){3}", "mac"),
    (r"be24:11ff:fe[0-9a-f:]+", "EUI"),
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UUID"),
    (r"\b[0-9a-f]{64}\b", "SHA256"),
    (r"\b[0-9a-f]{40}\b", "SHA1"),
    (r"pveupload-[0-9a-f]{32}", "pveupload"),
    (r"\d{4}-\d\d-\d\d(T|_| )?(\d\d[:_]\d\d[:_]\d\d)?", "DATE"),
    (r"tmp_dwnl\.\d+", "tmp_dwnl"),
    (r"http://127\.0\.0\.1:\d+", "http://HOST"),
    (r"127\.0\.0\.1:\d+", "HOST"),
    (r"ctime=\d+", "ctime"),
    (r"\npassword: \S+", "\npassword: HASH"),
)


def normalised(text: str) -> str:
    for pattern, replacement in _REPLACEMENTS:
        text = re.sub(pattern, replacement, text)
    return text.strip()


def differences(recorded: Any, live: Any, path: str = "body") -> list[str]:
    """Sentences on what differs; empty when the two agree."""
    if _kind(recorded) != _kind(live):
        return [f"{path}: recorded {_kind(recorded)} {_short(recorded)}, got {_short(live)}"]
    if isinstance(recorded, dict):
        return _dict_differences(recorded, live, path)
    if isinstance(recorded, list):
        return _list_differences(recorded, live, path)
    key, qualified = path.rsplit(".", 1)[-1], ".".join(path.rsplit(".", 2)[-2:])
    is_random = key in RANDOM or qualified in RANDOM
    if isinstance(recorded, str) and not is_random and _text(key, recorded) != _text(key, live):
        return [f"{path}: recorded {_short(recorded)}, got {_short(live)}"]
    return []


def _text(key: str, text: str) -> str:
    if key == "content":
        return ",".join(sorted(text.split(",")))
    return normalised(text)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "list" if isinstance(value, list) else "object"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 160 else text[:157] + "..."


def _dict_differences(recorded: dict[str, Any], live: dict[str, Any], path: str) -> list[str]:
    found = []
    for key in sorted(recorded.keys() - live.keys() - OPTIONAL):
        found.append(f"{path}.{key}: missing (recorded {_short(recorded[key])})")
    for key in sorted(live.keys() - recorded.keys() - OPTIONAL):
        found.append(f"{path}.{key}: not recorded (got {_short(live[key])})")
    for key in sorted(recorded.keys() & live.keys()):
        found += differences(recorded[key], live[key], f"{path}.{key}")
    return found


def _list_differences(recorded: list[Any], live: list[Any], path: str) -> list[str]:
    if not all(isinstance(row, dict) for row in [*recorded, *live]):
        return [] if bool(recorded) == bool(live) else [f"{path}: got {_short(live)}"]
    if any("upid" in row or "t" in row or "time" in row for row in recorded):
        return _row_shape_differences(recorded, live, path)
    identity = next((key for key in IDENTITIES if recorded and key in recorded[0]), None)
    if identity is None:
        return _row_shape_differences(recorded, live, path)
    theirs = {row.get(identity): row for row in recorded}
    ours = {row.get(identity): row for row in live}
    found = [f"{path}[{name}]: missing" for name in theirs if name not in ours]
    found += [f"{path}[{name}]: not recorded" for name in ours if name not in theirs]
    for name, row in theirs.items():
        if name in ours:
            found += differences(row, ours[name], f"{path}[{name}]")
    return found


def _row_shape_differences(recorded: list[Any], live: list[Any], path: str) -> list[str]:
    if bool(recorded) != bool(live):
        return [f"{path}: recorded {len(recorded)} rows, got {len(live)}"]
    theirs, ours = _columns(recorded), _columns(live)
    found = [
        f"{path}[].{key}: missing (recorded {theirs[key]})"
        for key in sorted(theirs.keys() - ours.keys() - OPTIONAL)
    ]
    found += [
        f"{path}[].{key}: not recorded (got {ours[key]})"
        for key in sorted(ours.keys() - theirs.keys() - OPTIONAL)
    ]
    for key in sorted(theirs.keys() & ours.keys()):
        if not theirs[key] & ours[key]:
            found.append(f"{path}[].{key}: recorded {theirs[key]}, got {ours[key]}")
    return found


def _columns(rows: list[Any]) -> dict[str, set[str]]:
    columns: dict[str, set[str]] = {}
    for row in rows:
        for key, value in row.items():
            columns.setdefault(key, set()).add(_kind(value))
    return columns
