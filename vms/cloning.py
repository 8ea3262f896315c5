"""From "another VM like this one" to the rows and parameters of the clone."""

from __future__ import annotations

from typing import Any

from accounts.actors import Actor
from operations.models import EXCLUSIVE, SHARED
from operations.refusals import Conflict, InvalidInput, Unavailable
from proxmox import ProxmoxError
from proxmox.results import GuestConfig
from vms import observe
from vms.asked import CloneOf
from vms.changing import changed_secrets, grown_disk, user_data_of
from vms.creation import Draft, find_size
from vms.models import GIB, PAUSED, RUNNING, VirtualMachine
from vms.placement import Need
from vms.preflight import LONG_LOOK_S, client_of, find_node
from vms.refresh import is_it
from vms.volumes import vm_of_user_data


def draft_clone(source: VirtualMachine, asked: CloneOf, *, by: Actor) -> Draft:
    """Raises Refusal."""
    node = find_node(source.cluster, asked.node).name if asked.node else source.node
    config = config_of(source, asked, node)
    check_cloud_init(source, asked, config)
    seen = observe.config_values(source, config)
    vm = clone_row(source, asked, seen, by=by)
    runs = source.power in {RUNNING, PAUSED}
    return Draft(
        kind="clone_vm",
        vm=vm,
        source_claims=((source.claim, EXCLUSIVE if runs else SHARED),),
        need=Need(
            # One that is not started takes none yet.
            cores=vm.cores if asked.start_on_create else 0,
            memory_mib=vm.memory_mib if asked.start_on_create else 0,
            disk_bytes=0 if asked.linked else vm.disk_bytes,
            storages=disk_storages(config, asked.storage),
            node=node,
            node_because="asked for" if asked.node else "where its source is",
            network=asked.network,
        ),
        # Proxmox locks a running source for itself.
        lanes=((f"source:{source.vmid}", 1),) if runs else (),
        params={
            "template_name": source.name,
            "template_node": source.node,
            "template_vmid": source.vmid,
            "template_smbios": config.smbios_uuid,
            "linked": asked.linked,
            "storage": asked.storage,
            "description": vm.description,
            # Left alone where nothing was asked, with however many sockets its source has.
            "cores": vm.cores if vm.cores != seen["cores"] else None,
            "memory_mib": vm.memory_mib,
            "disk_gib": vm.disk_bytes // GIB if vm.disk_bytes > seen["disk_bytes"] else 0,
            "tags": vm.tags,
            "network": asked.network,
            "cloud_init": asked.cloud_init.without_secret(),
            "start_on_create": asked.start_on_create,
        },
        secrets=changed_secrets(user_data_of(source), source.cluster, asked.cloud_init),
    )


def config_of(source: VirtualMachine, asked: CloneOf, node: str) -> GuestConfig:
    """Asks Proxmox what its storages can do, since that is not to be guessed. Raises Refusal."""
    client = client_of(source.cluster)
    try:
        config = client.guest_config(source.node, source.vmid, timeout_s=LONG_LOOK_S)
        feature = client.guest_feature(
            source.node, source.vmid, "clone" if asked.linked else "copy", timeout_s=LONG_LOOK_S
        )
    except ProxmoxError as error:
        raise Unavailable("cluster_unavailable", f"The cluster cannot be asked: {error}") from None
    if not is_it(source, config):
        raise Conflict(
            "vm_replaced",
            f"VMID {source.vmid} is another VM now (smbios uuid {config.smbios_uuid}, it was "
            f"{source.smbios_uuid}).",
        )
    if not feature.is_available:
        why = (
            f"Proxmox makes linked clones of templates, and VM {source} is none, or its storage "
            "cannot make them."
            if asked.linked
            else f"The storage of VM {source} cannot make a full clone of it."
        )
        raise Conflict("clone_unsupported", why, field="linked")
    if node != source.node and feature.nodes and node not in feature.nodes:
        raise InvalidInput(
            "node",
            f"The disks of VM {source} are not reachable from {node}: clone it on {source.node} "
            "and migrate the clone.",
        )
    return config


def check_cloud_init(source: VirtualMachine, asked: CloneOf, config: GuestConfig) -> None:
    """Raises InvalidInput where there would be no drive to bring it to the clone."""
    has_seed = any(disk.is_cloudinit or vm_of_user_data(disk.volume) for disk in config.disks)
    if not (asked.cloud_init.is_empty or asked.cloud_init.user_data or has_seed):
        raise InvalidInput(
            "cloud_init", f"VM {source} has no cloud-init drive, so this could not be applied."
        )


def clone_row(
    source: VirtualMachine, asked: CloneOf, seen: dict[str, Any], *, by: Actor
) -> VirtualMachine:
    """The clone as it will be: as its source was `seen`, but for what was asked otherwise."""
    size = find_size(asked.size)
    cores = asked.cores or (size.cores if size else seen["cores"])
    memory_mib = asked.memory_mib or (size.memory_mib if size else seen["memory_mib"])
    by_parts = asked.cores or asked.memory_mib
    disk_gib = grown_disk(
        f"VM {source}", seen["disk_bytes"], asked.disk_gib, size.disk_gib if size else None
    )
    return VirtualMachine(
        cluster=source.cluster,
        vmid=0,
        project=source.project or by.project,
        name=asked.name,
        description=seen["description"] if asked.description is None else asked.description,
        tags=seen["tags"] if asked.tags is None else list(asked.tags),
        metadata=source.metadata if asked.metadata is None else asked.metadata,
        is_protected=asked.is_protected,
        is_ours=True,
        template_name=source.template_name,
        os_type=seen["os_type"],
        size=size or (None if by_parts else source.size),
        cores=cores,
        memory_mib=memory_mib,
        disk_bytes=disk_gib * GIB or seen["disk_bytes"],
        network=asked.network or seen["network"],
        cloud_init=seen["cloud_init"] | asked.cloud_init.shown(),
    )


def disk_storages(config: GuestConfig, storage: str) -> tuple[str, ...]:
    if storage:
        return (storage,)
    disks = (disk for disk in config.disks if not disk.is_cdrom)
    return tuple(sorted({disk.storage for disk in disks if disk.storage}))
