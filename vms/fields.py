"""Checks of single values: names, tags, keys, addresses. Each error says what would be right."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import struct
from typing import Any
from urllib.parse import quote

import yaml
from rest_framework import serializers

_LABEL = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")
_SNAPSHOT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")
_RESERVED_SNAPSHOTS = ("current", "pending", "special", "cloudinit")
_TAG = re.compile(r"[a-z0-9_][a-z0-9_\-+.]*", re.IGNORECASE)
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}\$?", re.IGNORECASE)
_BRIDGE = re.compile(r"[a-zA-Z][a-zA-Z0-9_.-]{0,39}")
KEY_TYPES = {
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
}


# Half of what a request may hold, so that all else has room.
SSH_KEYS_MAX = 256 * 1024
USER_DATA_MAX = 64 * 1024
# How cloud-init tells what it was given; anything else it would ignore.
USER_DATA_STARTS = (
    "#!",
    "#cloud-config",
    "#cloud-boothook",
    "#include",
    "## template:",
    "#part-handler",
)


class StrictCharField(serializers.CharField):
    """Text as JSON text: a number or a boolean is a mistake, not a word."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("Give a text.")
        return str(super().to_internal_value(data))


class StrictIntegerField(serializers.IntegerField):
    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, bool) or not isinstance(data, int):
            raise serializers.ValidationError("Give a whole number.")
        return int(super().to_internal_value(data))


class StrictBooleanField(serializers.BooleanField):
    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("Give true or false.")
        return data


class StrictChoiceField(serializers.ChoiceField):
    """One of some words; the error names them."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str) or data not in self.choices:
            raise serializers.ValidationError(f"Give one of {', '.join(map(str, self.choices))}.")
        return data


def check_name(name: str) -> None:
    """A DNS label or a fully qualified name, as Proxmox's `dns-name` format wants it."""
    if not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise serializers.ValidationError(
            "Give a DNS name: letters, digits and hyphens, in labels of at most 63 separated by "
            "dots, none of which begins or ends with a hyphen."
        )


def check_numbered_name(name: str, count: int) -> None:
    """Has the name room for `-1` … `-count` behind it? Raises ValidationError."""
    longest = f"{name}-{count}"
    if len(longest) > 63:
        raise serializers.ValidationError(
            {"name": f"With its number {longest[-10:]} it would be longer than 63 characters."}
        )
    check_name(longest)


def check_snapshot_name(name: str) -> None:
    """Proxmox's rule, and its own words, which head sections of a VM's configuration file."""
    if not _SNAPSHOT.fullmatch(name) or name.lower() in _RESERVED_SNAPSHOTS:
        raise serializers.ValidationError(
            "Give 2 to 40 letters, digits, _ or -, beginning with a letter, but none of "
            f"{', '.join(_RESERVED_SNAPSHOTS)}."
        )


def check_tag(tag: str) -> None:
    if not _TAG.fullmatch(tag):
        raise serializers.ValidationError(
            "A tag has letters, digits and _ - + . and begins with a letter, a digit or _."
        )


def check_user(user: str) -> None:
    if not _USER.fullmatch(user):
        raise serializers.ValidationError(
            "Give a Unix user name: up to 32 letters, digits, _ . or -, not beginning with a digit."
        )


def check_bridge(name: str) -> None:
    if not _BRIDGE.fullmatch(name):
        raise serializers.ValidationError("Give the name of a bridge, e.g. vmbr0.")


def check_ssh_key(line: str) -> None:
    """One public key in OpenSSH's format, whose data is of the type that it says."""
    parts = line.split()
    # As their reader splits them (`observe`): at U+2028 and the like, too.
    if len(line.strip().splitlines()) > 1 or len(parts) < 2 or parts[0] not in KEY_TYPES:
        raise serializers.ValidationError(
            "Give one public key in OpenSSH's format: a type such as ssh-ed25519 or ssh-rsa, "
            "the key in base64, and possibly a comment."
        )
    try:
        strings = _strings(base64.b64decode(parts[1], validate=True))
    except (binascii.Error, struct.error):
        strings = []
    if len(strings) < 2 or strings[0] != parts[0].encode():
        raise serializers.ValidationError(
            f"This is not a whole {parts[0]} key: its base64 part is cut or altered."
        )


def check_ssh_keys(keys: list[str]) -> None:
    """Proxmox takes requests of up to 512 KiB, in which it wants keys percent-encoded twice."""
    sent = quote(quote("\n".join(keys), safe=""), safe="")
    if len(sent) > SSH_KEYS_MAX:
        raise serializers.ValidationError(
            f"Give fewer or shorter ones: for Proxmox they come to {len(sent) // 1024} KiB, of "
            f"at most {SSH_KEYS_MAX // 1024}."
        )


def check_user_data(text: str) -> None:
    """Something that cloud-init will act on, and can read."""
    if len(text.encode()) > USER_DATA_MAX:
        raise serializers.ValidationError(f"Give up to {USER_DATA_MAX // 1024} KiB.")
    if text.startswith("#cloud-config"):
        try:
            # Its syntax only: what a tag or a number in it means is for cloud-init to say.
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise serializers.ValidationError(f"This is no YAML: {_place(error)}.") from None
        except RecursionError:
            raise serializers.ValidationError("This is nested too deeply.") from None
        if not isinstance(root, yaml.MappingNode | None):
            raise serializers.ValidationError("A #cloud-config holds keys with values.")
        return
    is_multipart = text.lower().startswith(("content-type: multipart", "mime-version:"))
    if not (is_multipart or text.startswith(USER_DATA_STARTS)):
        raise serializers.ValidationError(
            "Begin with #cloud-config, #! for a script, or another start that cloud-init knows."
        )


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "it cannot be read"
    return f"{problem}, in line {mark.line + 1}" if mark else problem


def _strings(blob: bytes) -> list[bytes]:
    """The strings that a key's data consists of (RFC 4253). Raises struct.error if it is cut."""
    strings = []
    while blob:
        (length,) = struct.unpack(">I", blob[:4])
        if len(blob) < 4 + length:
            raise struct.error("cut")
        strings.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return strings


def check_host(name: str) -> None:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        raise serializers.ValidationError("Give an IP address.") from None


def normalise_ip_config(text: str, gateway: str = "") -> str:
    """Proxmox's `ipconfig0` from its own words (ip=…,gw=…,ip6=…,gw6=…), checked.

    `gateway` adds gw or gw6 by its family. Raises ValidationError, saying which part is wrong.
    """
    parts: dict[str, str] = {}
    for word in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = word.partition("=")
        if not equals or key not in {"ip", "gw", "ip6", "gw6"} or key in parts:
            raise serializers.ValidationError(
                f"{word!r} is not understood; give e.g. ip=dhcp or ip=192.0.2.10/24,gw=192.0.2.1."
            )
        parts[key] = value
    if gateway:
        key = "gw6" if ":" in gateway else "gw"
        if parts.setdefault(key, gateway) != gateway:
            raise serializers.ValidationError(f"`gateway` says {gateway}, ip_config {parts[key]}.")
    if not parts:
        raise serializers.ValidationError("Give e.g. ip=dhcp or ip=192.0.2.10/24,gw=192.0.2.1.")
    _check_family(parts, "ip", "gw", 4, {"dhcp"})
    _check_family(parts, "ip6", "gw6", 6, {"dhcp", "auto"})
    return ",".join(f"{key}={parts[key]}" for key in ("ip", "gw", "ip6", "gw6") if key in parts)


def is_static(ip_config: str) -> bool:
    """Does it give a VM an address of its own?"""
    return "/" in ip_config


def _check_family(
    parts: dict[str, str], ip: str, gw: str, version: int, automatic: set[str]
) -> None:
    own = parts.get(ip)
    if own in automatic or own is None:
        if gw in parts:
            raise serializers.ValidationError(
                f"{gw} needs a static {ip}; it is {own or 'not set'}."
            )
        return
    try:
        interface = ipaddress.ip_interface(own)
    except ValueError:
        interface = None
    if interface is None or "/" not in own or interface.version != version:
        words = " or ".join(sorted(automatic))
        raise serializers.ValidationError(
            f"{ip}={own} is not an IPv{version} address with its prefix length, nor {words}."
        )
    if gw not in parts:
        return
    try:
        gateway = ipaddress.ip_address(parts[gw])
    except ValueError:
        raise serializers.ValidationError(f"{gw}={parts[gw]} is not an address.") from None
    if gateway not in interface.network:
        raise serializers.ValidationError(
            f"Gateway {gateway} is not in the network {interface.network} of {ip}={own}."
        )
