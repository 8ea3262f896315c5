"""From "a VM from this ISO, or this cloud image" to a creation's row and parameters."""

from __future__ import annotations

import re
from dataclasses import replace

from accounts.actors import Actor
from clusters.models import Cluster
from operations.refusals import Conflict, InvalidInput
from vms.asked import NewVm
from vms.creation import (
    DEFAULT_DISK_GIB,
    Draft,
    batch_of,
    check_iso_storage,
    draft_vm,
    find_size,
    new_params,
    new_row,
    secrets_in,
)
from vms.images import IMPORT, ISO, Image, find_image
from vms.models import GIB, OSTYPES, VirtualMachine
from vms.placement import Need

# Since when Proxmox makes disks of uploaded and downloaded images.
IMPORTS_SINCE = (8, 4)
# Cloud images wait for a network configuration; without one they come up without a network.
DEFAULT_IP_CONFIG = "ip=dhcp"


def draft_batch(asked: NewVm, *, by: Actor) -> list[Draft]:
    """What is to be made, from a template or an image. Raises Refusal for what cannot be."""
    draft = draft_install(asked, by=by) if asked.os_template else draft_vm(asked, by=by)
    return batch_of(draft, asked.count)


def draft_install(asked: NewVm, *, by: Actor) -> Draft:
    """Raises Refusal for what cannot be; asks Proxmox for the image, and chooses no node yet."""
    image = find_image(
        asked.os_template, named_in="os_template", cluster=asked.cluster, contents={ISO, IMPORT}
    )
    if image.is_iso and not asked.cloud_init.is_empty:
        raise InvalidInput(
            "cloud_init",
            f"{image.volid} is an ISO: whoever installs from it decides this. Only templates and "
            "cloud images take it.",
        )
    if not image.is_iso:
        require_imports(image.cluster)
        asked = with_ip_config(asked)
    if asked.cloud_init.user_data:
        check_iso_storage(image.cluster)
    size = find_size(asked.size)
    disk_gib = asked.disk_gib or (size.disk_gib if size else DEFAULT_DISK_GIB)
    vm = new_row(asked, image.cluster, by, size)
    vm.os_type, vm.os_template = asked.os_type or "linux", image.volid
    vm.disk_bytes = disk_gib * GIB
    return Draft(
        kind="install_vm",
        vm=vm,
        source_claims=(),
        need=need_of(image, vm, storage=asked.storage, node=asked.node),
        params={
            **new_params(asked, vm),
            "hardware": {
                "ostype": OSTYPES[vm.os_type],
                "iso": image.volid if image.is_iso else "",
                "image": "" if image.is_iso else image.volid,
                "disk_gib": disk_gib,
            },
            # An image's disk has a size of its own, and grows; an empty one is made as large.
            "disk_gib": 0 if image.is_iso else disk_gib,
        },
        secrets=secrets_in(asked.cloud_init),
    )


def need_of(image: Image, vm: VirtualMachine, *, storage: str, node: str) -> Need:
    """A node that sees the image and has room for the disk."""
    return Need(
        cores=vm.cores,
        memory_mib=vm.memory_mib,
        disk_bytes=vm.disk_bytes,
        storages=(storage,) if storage else (),
        picks_storage=not storage,
        node=node,
        network=vm.network,
        only_on=image.nodes,
        only_because=f"it does not see {image.volid}",
    )


def with_ip_config(asked: NewVm) -> NewVm:
    if asked.cloud_init.ip_config:
        return asked
    return replace(asked, cloud_init=replace(asked.cloud_init, ip_config=DEFAULT_IP_CONFIG))


def require_imports(cluster: Cluster) -> None:
    """Raises Conflict where Proxmox is too old; an unknown version is left to Proxmox itself."""
    numbers = re.match(r"(\d+)\.(\d+)", cluster.version)
    if numbers and (int(numbers[1]), int(numbers[2])) < IMPORTS_SINCE:
        raise Conflict(
            "needs_pve_8_4",
            f"Cluster {cluster} runs Proxmox VE {cluster.version}; making a disk of a cloud image "
            "needs 8.4 or later.",
        )
