"""The shapes of requests about templates."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from accounts.rest import StrictSerializer
from vms import fields
from vms.asked import NewTemplate
from vms.fields import StrictCharField, StrictChoiceField, StrictIntegerField
from vms.models import CORES, DISK_GIB, MEMORY_MIB, OSTYPES
from vms.serializers import normal_tags

FORMATS = ("qcow2", "raw", "vmdk")
# By the length of their sums in hexadecimal digits.
ALGORITHMS = {32: "md5", 40: "sha1", 56: "sha224", 64: "sha256", 96: "sha384", 128: "sha512"}
PACKED = (".gz", ".xz", ".zst", ".bz2", ".zip", ".tar", ".7z")
_URL = re.compile(r"[!#-&(-;=?-~]+")  # printable ASCII without space, quotes, < and >
_HEX = re.compile(r"[0-9a-f]+")


def check_url(url: str) -> None:
    """What a node can fetch. The error repeats nothing of it: its query may give access."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not _URL.fullmatch(url):
        raise ValidationError("Give an http:// or https:// URL, percent-encoded where need be.")
    if parts.username is not None or parts.fragment:
        raise ValidationError("Give it without a user name or a #fragment.")
    if parts.path.lower().endswith(PACKED):
        raise ValidationError("This is packed, and Proxmox does not unpack it: offer it unpacked.")
    if parts.path.lower().endswith(".iso"):
        raise ValidationError("This is an ISO; a template is made of a disk image.")


class BuildTemplateSerializer(StrictSerializer):
    """`POST /templates`."""

    name = StrictCharField(min_length=2, max_length=63, validators=[fields.check_name])
    url = StrictCharField(
        max_length=4096,
        required=False,
        write_only=True,
        validators=[check_url],
        help_text="of a cloud image, e.g. a presigned one; its query is kept secret",
    )
    volume = StrictCharField(
        max_length=255,
        required=False,
        help_text="instead of `url`: a cloud image on a storage, by its volume ID or file name",
    )
    format = StrictChoiceField(
        choices=FORMATS,
        required=False,
        help_text="of the file at `url`; by default as its name ends, else qcow2",
    )
    checksum = StrictCharField(
        max_length=140, required=False, help_text="e.g. sha256:… ; Proxmox checks it"
    )
    checksum_algorithm = StrictChoiceField(choices=sorted(ALGORITHMS.values()), required=False)
    os_type = StrictChoiceField(choices=list(OSTYPES), default="linux")
    cluster = StrictCharField(max_length=63, required=False)
    node = StrictCharField(max_length=63, required=False)
    storage = StrictCharField(max_length=100, required=False, help_text="for the disk")
    image_storage = StrictCharField(
        max_length=100, required=False, help_text="where `url` is fetched to meanwhile"
    )
    cores = StrictIntegerField(min_value=CORES[0], max_value=CORES[1], default=1)
    memory = StrictIntegerField(
        min_value=MEMORY_MIB[0], max_value=MEMORY_MIB[1], default=1024, help_text="MiB"
    )
    disk_size = StrictIntegerField(
        min_value=DISK_GIB[0],
        max_value=DISK_GIB[1],
        required=False,
        help_text="GiB; by default the image's own",
    )
    network = StrictCharField(
        max_length=40, required=False, validators=[fields.check_bridge], help_text="a bridge"
    )
    description = StrictCharField(max_length=4096, default="", allow_blank=True)
    tags = serializers.ListField(
        child=StrictCharField(max_length=100, validators=[fields.check_tag]),
        required=False,
        max_length=50,
    )
    user = StrictCharField(
        max_length=32,
        required=False,
        validators=[fields.check_user],
        help_text="cloud-init's user, for VMs that name none",
    )

    def to_internal_value(self, data: Any) -> Any:
        self.fields["url"].required = not (isinstance(data, dict) and "volume" in data)
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "url" in attrs and "volume" in attrs:
            raise ValidationError({"volume": "Give this or `url`, not both."})
        for name in ("checksum", "checksum_algorithm", "format", "image_storage"):
            if name in attrs and "volume" in attrs:
                raise ValidationError({name: "This goes with `url`, not with `volume`."})
        attrs["algorithm"], attrs["checksum"] = checksum_of(attrs)
        return attrs


def checksum_of(attrs: dict[str, Any]) -> tuple[str, str]:
    """(algorithm, sum) from `sha256:…`, or the sum with its algorithm named apart or known by its
    length. Raises ValidationError."""
    named, given = attrs.get("checksum_algorithm", ""), attrs.get("checksum", "")
    if not given:
        if named:
            raise ValidationError({"checksum_algorithm": "Give the `checksum` that it is of."})
        return "", ""
    prefix, _, digits = given.rpartition(":")
    digits, prefix = digits.lower(), prefix.lower()
    algorithm = ALGORITHMS.get(len(digits), "")
    if not _HEX.fullmatch(digits) or not algorithm:
        raise ValidationError({"checksum": "Give a sum in hexadecimal digits, e.g. sha256:…"})
    if prefix not in {"", algorithm}:
        raise ValidationError(
            {"checksum": f"It is called {prefix!r}, and is as long as a {algorithm}."}
        )
    if named not in {"", algorithm}:
        raise ValidationError({"checksum_algorithm": f"The sum is as long as a {algorithm}."})
    return algorithm, digits


def new_template_of(checked: dict[str, Any]) -> NewTemplate:
    """The checked body of `POST /templates` in the actions' words."""
    return NewTemplate(
        name=checked["name"],
        url=checked.get("url", ""),
        volume=checked.get("volume", ""),
        format=checked.get("format") or format_of(checked.get("url", "")),
        checksum=checked["checksum"],
        algorithm=checked["algorithm"],
        os_type=checked["os_type"],
        cluster=checked.get("cluster", ""),
        node=checked.get("node", ""),
        storage=checked.get("storage", ""),
        image_storage=checked.get("image_storage", ""),
        cores=checked["cores"],
        memory_mib=checked["memory"],
        disk_gib=checked.get("disk_size"),
        network=checked.get("network", ""),
        description=checked["description"],
        tags=normal_tags(checked.get("tags", [])),
        user=checked.get("user", ""),
    )


def format_of(url: str) -> str:
    """By the name's end; `.img`, and no end at all, is qcow2 with all who publish cloud images."""
    ending = urlsplit(url).path.rpartition(".")[2].lower()
    return ending if ending in FORMATS else "qcow2"


class CopyTemplateSerializer(StrictSerializer):
    """`POST /templates/{id}/copies`."""

    node = StrictCharField(max_length=63)
    storage = StrictCharField(max_length=100, required=False, help_text="there, for the disk")
