"""From what was asked to a creation's row and parameters: all that can be refused early, is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from accounts.actors import Actor
from clusters.models import ONLINE, Cluster, Storage
from operations.models import SHARED
from operations.refusals import Conflict, InvalidInput, Unavailable
from templates_app.models import Template
from vms.asked import NewVm
from vms.models import GIB, Size, VirtualMachine
from vms.placement import Placement, choose_node

# Without a size: what API.md promises.
DEFAULT_CORES, DEFAULT_MEMORY_MIB, DEFAULT_DISK_GIB = 1, 1024, 20

# How many allocations a storage takes at once by default, by its plugin. Proxmox serialises them
# cluster-wide on shared storage and lets the rest time out.
STORAGE_LANES = {"dir": 2, "nfs": 1, "cifs": 1, "lvm": 2, "lvmthin": 4, "zfspool": 4, "rbd": 4}
NODE_LANE = 8


@dataclass(frozen=True)
class Draft:
    """A creation about to be accepted: the VM's row, unsaved, and the operation's parameters."""

    vm: VirtualMachine
    source_claim: tuple[str, str]
    placement: Placement
    params: dict[str, Any]
    secrets: dict[str, str]


def draft_vm(asked: NewVm, *, by: Actor) -> Draft:
    """Raises Refusal for everything that cannot be; asks no cluster and writes nothing."""
    template = find_template(asked.template, cluster=asked.cluster, by=by)
    size = find_size(asked.size)
    cores = asked.cores or (size.cores if size else DEFAULT_CORES)
    memory_mib = asked.memory_mib or (size.memory_mib if size else DEFAULT_MEMORY_MIB)
    disk_gib = wanted_disk(asked, size, template)
    if not asked.cloud_init.is_empty and not template.has_cloud_init:
        raise InvalidInput(
            "cloud_init",
            f"Template {template.name} has no cloud-init drive, so this could not be applied.",
        )
    disk_bytes = max(disk_gib * GIB, template.disk_bytes)
    placement = choose_node(
        template=template,
        memory_mib=memory_mib,
        disk_bytes=disk_bytes,
        node=asked.node,
        network=asked.network,
        storage=asked.storage,
        linked=asked.linked,
    )
    vm = VirtualMachine(
        cluster=template.cluster,
        vmid=0,
        node=placement.node,
        project=by.project,
        name=asked.name,
        description=asked.description,
        tags=sorted(set(asked.tags)),
        metadata=asked.metadata,
        is_protected=asked.is_protected,
        is_ours=True,
        template_name=template.name,
        os_type=template.os_type,
        size=size,
        cores=cores,
        memory_mib=memory_mib,
        disk_bytes=disk_bytes,
        network=asked.network,
        cloud_init=asked.cloud_init.without_secret()
        | ({"password_set": True} if asked.cloud_init.password else {}),
    )
    return Draft(
        vm=vm,
        source_claim=(template.claim, SHARED),
        placement=placement,
        params={
            "template_name": template.name,
            "template_node": template.node,
            "template_vmid": template.vmid,
            "linked": asked.linked,
            "storage": asked.storage,
            "description": asked.description,
            "cores": cores,
            "memory_mib": memory_mib,
            "disk_gib": disk_gib if disk_gib * GIB > template.disk_bytes else 0,
            "tags": vm.tags,
            "network": asked.network,
            "cloud_init": asked.cloud_init.without_secret(),
            "start_on_create": asked.start_on_create,
            "keep": asked.keep,
            "placement": {"node": placement.node, "reason": placement.reason},
            "lanes": storage_lanes(
                template.cluster,
                placement.node,
                [asked.storage] if asked.storage else template.storages,
            ),
        },
        secrets={"password": asked.cloud_init.password} if asked.cloud_init.password else {},
    )


def find_template(wanted: str, *, cluster: str, by: Actor) -> Template:
    """By name or VMID. Raises InvalidInput (unknown, ambiguous), Unavailable (its cluster is)."""
    templates = Template.objects.visible_to(by).select_related("cluster")
    if cluster:
        if not Cluster.objects.filter(name=cluster, is_enabled=True).exists():
            raise InvalidInput(
                "cluster", f"There is no cluster {cluster!r}.", code="cluster_not_found"
            )
        templates = templates.filter(cluster__name=cluster)
    is_vmid = re.fullmatch(r"[0-9]{3,9}", wanted)
    found = list(templates.filter(vmid=int(wanted)) if is_vmid else [])
    found = found or list(templates.filter(name=wanted))
    if not found:
        raise InvalidInput(
            "template", f"There is no template {wanted!r}.", code="template_not_found"
        )
    if len(found) > 1:
        which = ", ".join(f"{t.vmid} on {t.cluster}" for t in found)
        raise InvalidInput(
            "template",
            f"{len(found)} templates answer to {wanted!r} ({which}): "
            "name one by its VMID, and by `cluster` if need be.",
            code="template_ambiguous",
        )
    template = found[0]
    if template.cluster.state != ONLINE:
        raise Unavailable(
            "cluster_unavailable",
            f"Cluster {template.cluster} is {template.cluster.state}"
            + (f": {template.cluster.error}" if template.cluster.error else "."),
        )
    if template.details_at is None:
        raise Conflict(
            "template_not_read", f"Template {template.name} was just found; try again in seconds."
        )
    return template


def find_size(name: str) -> Size | None:
    if not name:
        return None
    size = Size.objects.filter(name=name).first()
    if size is None:
        known = ", ".join(Size.objects.values_list("name", flat=True))
        raise InvalidInput(
            "size", f"There is no size {name!r}; there are: {known}.", code="size_not_found"
        )
    return size


def wanted_disk(asked: NewVm, size: Size | None, template: Template) -> int:
    """GiB. What was asked for may not be smaller than the template's disk: disks only grow."""
    own = -(-template.disk_bytes // GIB)
    if asked.disk_gib is not None and asked.disk_gib * GIB < template.disk_bytes:
        raise InvalidInput(
            "disk_size",
            f"The disk of template {template.name} has {own} GiB and cannot shrink to "
            f"{asked.disk_gib} GiB.",
        )
    if asked.disk_gib is not None:
        return asked.disk_gib
    chosen = size.disk_gib if size else DEFAULT_DISK_GIB
    return chosen if chosen * GIB >= template.disk_bytes else own


def storage_lanes(cluster: Cluster, node: str, storages: list[str]) -> list[list[Any]]:
    """Where a clone queues: its node, and each storage it allocates on."""
    lanes: list[list[Any]] = [[f"node:{node}", NODE_LANE]]
    for name in storages:
        storage = Storage.objects.filter(cluster=cluster, node=node, name=name).first()
        if storage is not None:
            where = name if storage.is_shared else f"{name}@{node}"
            lanes.append([f"storage:{where}", STORAGE_LANES.get(storage.kind, 2)])
    return lanes
