"""The shapes of requests and answers about VMs and sizes; what they mean is checked by actions."""

from __future__ import annotations

import re
from typing import Any

from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from accounts.rest import StrictSerializer
from vms import fields
from vms.asked import CloudInit, NewVm, VmChanges
from vms.fields import (
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictIntegerField,
)
from vms.models import CORES, DISK_GIB, MEMORY_MIB, OSTYPES, VirtualMachine

COUNT_MAX = 100
_METADATA_KEY = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")


class CloudInitSerializer(StrictSerializer):
    user = StrictCharField(max_length=32, required=False, validators=[fields.check_user])
    password = StrictCharField(
        max_length=1024, required=False, write_only=True, trim_whitespace=False
    )
    ssh_keys = serializers.ListField(
        child=StrictCharField(max_length=16_384, validators=[fields.check_ssh_key]),
        required=False,
        max_length=50,
        validators=[fields.check_ssh_keys],
    )
    ip_config = StrictCharField(max_length=255, required=False)
    gateway = StrictCharField(max_length=45, required=False, validators=[fields.check_host])
    dns = serializers.ListField(
        child=StrictCharField(max_length=45, validators=[fields.check_host]),
        required=False,
        max_length=6,
    )
    searchdomain = StrictCharField(max_length=253, required=False, validators=[fields.check_name])
    user_data = StrictCharField(
        required=False,
        write_only=True,
        trim_whitespace=False,
        validators=[fields.check_user_data],
        help_text="what cloud-init calls user-data: a #cloud-config, a script …; up to 64 KiB",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "ip_config" in attrs or "gateway" in attrs:
            try:
                attrs["ip_config"] = fields.normalise_ip_config(
                    attrs.get("ip_config", ""), attrs.pop("gateway", "")
                )
            except ValidationError as error:
                raise ValidationError({"ip_config": error.detail}) from None
        return attrs


class VmFields(StrictSerializer):
    """What can be asked for at the creation and changed later."""

    size = StrictCharField(max_length=40, required=False)
    cores = StrictIntegerField(min_value=CORES[0], max_value=CORES[1], required=False)
    memory = StrictIntegerField(
        min_value=MEMORY_MIB[0], max_value=MEMORY_MIB[1], required=False, help_text="MiB"
    )
    disk_size = StrictIntegerField(
        min_value=DISK_GIB[0], max_value=DISK_GIB[1], required=False, help_text="GiB"
    )
    network = StrictCharField(
        max_length=40, required=False, validators=[fields.check_bridge], help_text="a bridge"
    )
    cloud_init = CloudInitSerializer(required=False)
    description = StrictCharField(max_length=4096, required=False, allow_blank=True)
    tags = serializers.ListField(
        child=StrictCharField(max_length=100, validators=[fields.check_tag]),
        required=False,
        max_length=50,
    )
    metadata = serializers.DictField(
        child=StrictCharField(max_length=1024, allow_blank=True), required=False
    )
    protected = StrictBooleanField(required=False)

    def validate_metadata(self, metadata: dict[str, str]) -> dict[str, str]:
        if len(metadata) > 64:
            raise ValidationError("Up to 64 entries.")
        for key in metadata:
            if not _METADATA_KEY.fullmatch(key):
                raise ValidationError(
                    "A key has up to 128 letters, digits and _ . : / -", code="invalid"
                )
        return metadata


class CreateVmSerializer(VmFields):
    """`POST /vms`."""

    name = StrictCharField(min_length=2, max_length=63, validators=[fields.check_name])
    template = StrictCharField(
        max_length=255, required=False, help_text="a template's name, or its VMID"
    )
    os_template = StrictCharField(
        max_length=255,
        required=False,
        help_text="instead of a template: an ISO, or a cloud image, by its volume ID or file name",
    )
    os_type = StrictChoiceField(choices=list(OSTYPES), required=False)
    node = StrictCharField(max_length=63, required=False)
    cluster = StrictCharField(max_length=63, required=False)
    storage = StrictCharField(max_length=100, required=False)
    ip_config = StrictCharField(max_length=255, required=False)
    linked = StrictBooleanField(default=False)
    start_on_create = StrictBooleanField(default=True)
    keep = StrictBooleanField(default=False)
    count = StrictIntegerField(min_value=1, max_value=COUNT_MAX, required=False)
    min_count = StrictIntegerField(min_value=1, max_value=COUNT_MAX, required=False)

    def to_internal_value(self, data: Any) -> Any:
        # A VMID is as good as a name, also as the number that it is.
        if isinstance(data, dict) and type(data.get("template")) is int:
            data = {**data, "template": str(data["template"])}
        self.fields["template"].required = not (isinstance(data, dict) and "os_template" in data)
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if "template" in attrs and "os_template" in attrs:
            raise ValidationError({"os_template": "Give this or `template`, not both."})
        if attrs["linked"] and "os_template" in attrs:
            raise ValidationError({"linked": "Only a template can be cloned."})
        if attrs["linked"] and attrs.get("storage"):
            raise ValidationError(
                {"storage": "A linked clone stays on its template's storage; leave this out."}
            )
        if attrs.get("ip_config"):
            attrs["cloud_init"] = self._with_ip_config(attrs)
        self._check_batch(attrs)
        return attrs

    def _check_batch(self, attrs: dict[str, Any]) -> None:
        count, least = attrs.get("count"), attrs.get("min_count")
        if least is not None and (count is None or least > count):
            raise ValidationError({"min_count": "Give a `count`, and no more than that."})
        if count is None:
            return
        fields.check_numbered_name(attrs["name"], count)
        ip_config = attrs.get("cloud_init", {}).get("ip_config", "")
        if count > 1 and fields.is_static(ip_config):
            raise ValidationError(
                {"ip_config": f"{count} VMs cannot have one address; use ip=dhcp for a batch."}
            )

    def _with_ip_config(self, attrs: dict[str, Any]) -> dict[str, Any]:
        cloud_init = dict(attrs.get("cloud_init", {}))
        try:
            ip_config = fields.normalise_ip_config(attrs["ip_config"])
        except ValidationError as error:
            raise ValidationError({"ip_config": error.detail}) from None
        if cloud_init.setdefault("ip_config", ip_config) != ip_config:
            raise ValidationError(
                {"ip_config": f"It says {ip_config}, cloud_init {cloud_init['ip_config']}."}
            )
        return cloud_init


def new_vm_of(checked: dict[str, Any]) -> NewVm:
    """The checked body of `POST /vms` in the actions' words."""
    return NewVm(
        name=checked["name"],
        template=checked.get("template", ""),
        os_template=checked.get("os_template", ""),
        os_type=checked.get("os_type", ""),
        cluster=checked.get("cluster", ""),
        node=checked.get("node", ""),
        storage=checked.get("storage", ""),
        linked=checked["linked"],
        start_on_create=checked["start_on_create"],
        is_protected=checked.get("protected", False),
        keep=checked["keep"],
        count=checked.get("count"),
        min_count=checked.get("min_count"),
        **hardware_asked({"description": "", "tags": [], "metadata": {}, **checked}),
    )


def hardware_asked(checked: dict[str, Any]) -> dict[str, Any]:
    """What new VMs and clones have in common, in the actions' words; None is not asked for."""
    tags = checked.get("tags")
    return {
        "size": checked.get("size", ""),
        "cores": checked.get("cores"),
        "memory_mib": checked.get("memory"),
        "disk_gib": checked.get("disk_size"),
        "network": checked.get("network", ""),
        "description": checked.get("description"),
        "tags": None if tags is None else normal_tags(tags),
        "metadata": checked.get("metadata"),
        "cloud_init": cloud_init_of(checked.get("cloud_init", {})),
    }


def normal_tags(tags: list[str]) -> tuple[str, ...]:
    """Proxmox lower-cases and sorts them; so do we, that the read-back compares."""
    return tuple(sorted({tag.lower() for tag in tags}))


def cloud_init_of(checked: dict[str, Any]) -> CloudInit:
    return CloudInit(
        user=checked.get("user", ""),
        password=checked.get("password", ""),
        ssh_keys=tuple(key.strip() for key in checked.get("ssh_keys", [])),
        ip_config=checked.get("ip_config", ""),
        dns=tuple(checked.get("dns", [])),
        searchdomain=checked.get("searchdomain", ""),
        user_data=checked.get("user_data", ""),
    )


class UpdateVmSerializer(VmFields):
    """`PATCH /vms/{id}`: what is named is changed, the rest stays."""

    name = StrictCharField(
        min_length=2, max_length=63, required=False, validators=[fields.check_name]
    )
    project = StrictCharField(
        max_length=63, required=False, allow_null=True, help_text="operators only; null: nobody's"
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError("Name at least one field to change.")
        return attrs


def changes_of(checked: dict[str, Any]) -> VmChanges:
    """The checked body of a PATCH in the actions' words."""
    tags = checked.get("tags")
    return VmChanges(
        name=checked.get("name"),
        description=checked.get("description"),
        tags=None if tags is None else normal_tags(tags),
        metadata=checked.get("metadata"),
        is_protected=checked.get("protected"),
        project=(checked["project"] or "") if "project" in checked else None,
        size=checked.get("size"),
        cores=checked.get("cores"),
        memory_mib=checked.get("memory"),
        disk_gib=checked.get("disk_size"),
        network=checked.get("network"),
        cloud_init=cloud_init_of(checked["cloud_init"]) if "cloud_init" in checked else None,
    )


def is_stale(vm: VirtualMachine) -> bool:
    """It vanished from its cluster, or that has gone silent: the values are those seen last."""
    return vm.missing_since is not None or not vm.cluster.is_online
