"""Proxmox's named parameter formats: each either accepts a value or says why not.

The texts are what the API answers behind "invalid format - ".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import unquote

FormatError = ValueError
Check = Callable[[str], None]

_DNS_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9\-]*[a-zA-Z0-9])?"
_DNS_NAME = re.compile(rf"(?:{_DNS_LABEL}\.)*{_DNS_LABEL}\Z")
_CONFIG_ID = re.compile(r"[A-Za-z][A-Za-z0-9_\-]+\Z")
_STORAGE_ID = re.compile(r"[A-Za-z][A-Za-z0-9\-_.]*[A-Za-z0-9]\Z")
_URLENCODED = re.compile(r"[A-Za-z0-9\-_.!~*'()]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9\-_.!~*'()]*)*\Z")
_MAC = re.compile(r"[0-9a-fA-F][02468aceACE](?::[0-9a-fA-F]{2}){5}\Z")
_SIZE = re.compile(r"\d+(?:\.\d+)?[KMGT]?\Z")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_\-+.]*\Z")
_BOOT_DEVICE = re.compile(r"(?:ide|sata|scsi|virtio|net|hostpci|usb)\d+\Z")
_USER = re.compile(r"[^\s:/]+@[A-Za-z][A-Za-z0-9.\-_]+\Z")
_POOL = re.compile(r"[A-Za-z0-9.\-_]+(?:/[A-Za-z0-9.\-_]+){0,2}\Z")
_BRIDGE = re.compile(r"[-_.\w]+\Z")


def _matcher(pattern: re.Pattern[str], text: str) -> Check:
    def check(value: str) -> None:
        if not pattern.match(value):
            raise FormatError(text.format(value))

    return check


def _vmid(value: str) -> None:
    if not re.fullmatch(r"[1-9][0-9]{2,8}", value):
        raise FormatError("value does not look like a valid VM ID")


def _urlencoded(value: str) -> None:
    if not _URLENCODED.match(value):
        raise FormatError(f"invalid urlencoded string: {value}")


def _tags(value: str) -> None:
    for tag in split_list(value):
        if not _TAG.match(tag):
            raise FormatError(f"invalid characters in tag: '{tag}'")


def _each(check: Check) -> Check:
    def check_all(value: str) -> None:
        for part in split_list(value):
            check(part)

    return check_all


def _address(value: str) -> None:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _DNS_NAME.match(value):
            raise FormatError("value does not look like a valid address") from None


def _cidr(value: str, version: int) -> None:
    try:
        is_valid = "/" in value and ipaddress.ip_interface(value).version == version
    except ValueError:
        is_valid = False
    if not is_valid:
        raise FormatError(f"value does not look like a valid IPv{version}/prefix")


def _ipconfig(value: str) -> None:
    fields = dict(part.split("=", 1) for part in value.split(",") if "=" in part)
    if any("=" not in part for part in value.split(",")):
        raise FormatError(
            "format error\nvalue without key, but schema does not define a default key"
        )
    unknown = sorted(fields.keys() - {"ip", "gw", "ip6", "gw6"})
    if unknown:
        raise FormatError(
            f"format error\n{unknown[0]}: property is not defined in schema and the schema does "
            "not allow additional properties"
        )
    if fields.get("ip", "dhcp") != "dhcp":
        _cidr_of("ip", fields["ip"], 4)
    if fields.get("ip6", "auto") not in ("dhcp", "auto"):
        _cidr_of("ip6", fields["ip6"], 6)
    _gateway("gw", "ip", 4, fields)
    _gateway("gw6", "ip6", 6, fields)


def _cidr_of(key: str, value: str, version: int) -> None:
    try:
        _cidr(value, version)
    except FormatError as error:
        raise FormatError(f"format error\n{key}: invalid format - {error}") from None


def _gateway(key: str, needs: str, version: int, fields: dict[str, str]) -> None:
    if key not in fields:
        return
    if needs not in fields:
        raise FormatError(f"format error\n{key}: missing property - '{key}' requires this property")
    try:
        is_valid = ipaddress.ip_address(fields[key]).version == version
    except ValueError:
        is_valid = False
    if not is_valid:
        raise FormatError(
            f"format error\n{key}: invalid format - "
            f"value does not look like a valid ipv{version} address"
        )


def _boot(value: str) -> None:
    order = dict(part.split("=", 1) for part in value.split(",") if "=" in part).get("order")
    for device in (order or "").split(";"):
        if device and not _BOOT_DEVICE.match(device):
            raise FormatError(
                f"format error\norder: invalid format - invalid boot device '{device}'"
            )


def _volume(value: str) -> None:
    if value in ("none", "cdrom") or value.startswith("/"):
        return
    storage, colon, name = value.partition(":")
    if not (colon and name and _STORAGE_ID.match(storage)):
        raise FormatError("unable to parse volume ID '" + value + "'")


def split_list(value: str) -> list[str]:
    """Proxmox's lists: separated by comma, semicolon, NUL or white space."""
    return [part for part in re.split(r"[,;\0\s]+", value) if part]


def is_public_key(line: str) -> bool:
    """True for one line of an SSH authorized_keys file that ssh-keygen would accept."""
    match = re.search(r"(?:^|\s)((?:ssh|ecdsa|sk)-[\w@.\-]+)\s+([A-Za-z0-9+/=]+)(?:\s|$)", line)
    if match is None:
        return False
    import base64
    import binascii

    try:
        blob = base64.b64decode(match.group(2), validate=True)
    except (binascii.Error, ValueError):
        return False
    length = int.from_bytes(blob[:4], "big")
    return blob[4 : 4 + length] == match.group(1).encode() and len(blob) > 4 + length


def decode_ssh_keys(value: str) -> list[str]:
    return [line for line in unquote(value).splitlines() if line.strip()]


FORMATS: dict[str, Check] = {
    "dns-name": _matcher(_DNS_NAME, "value does not look like a valid DNS name"),
    "pve-node": _matcher(
        re.compile(_DNS_LABEL + r"\Z"), "value does not look like a valid node name"
    ),
    "pve-vmid": _vmid,
    "pve-vmid-list": _each(_vmid),
    "pve-configid": _matcher(_CONFIG_ID, "invalid configuration ID '{}'"),
    "pve-configid-list": _each(_matcher(_CONFIG_ID, "invalid configuration ID '{}'")),
    "pve-storage-id": _matcher(_STORAGE_ID, "storage ID '{}' contains illegal characters"),
    "pve-storage-id-list": _each(
        _matcher(_STORAGE_ID, "storage ID '{}' contains illegal characters")
    ),
    "pve-poolid": _matcher(_POOL, "value does not look like a valid pool name"),
    "pve-userid": _matcher(_USER, "value '{}' does not look like a valid user name"),
    "pve-bridge-id": _matcher(_BRIDGE, "invalid bridge ID '{}'"),
    "urlencoded": _urlencoded,
    "mac-addr": _matcher(_MAC, "value does not look like a valid unicast MAC address"),
    "disk-size": _matcher(_SIZE, "value does not look like a valid disk size"),
    "pve-tag-list": _tags,
    "address": _address,
    "address-list": _each(_address),
    "CIDR": lambda value: _cidr(value, 6 if ":" in value else 4),
    "pve-qm-ipconfig": _ipconfig,
    "pve-qm-boot": _boot,
    "pve-volume-id-or-qm-path": _volume,
    "pve-volume-id-or-absolute-path": _volume,
    "pve-volume-id": _volume,
}
