"""From "another VM like this one" to the rows and parameters of the clone."""

from __future__ import annotations

from accounts.actors import Actor
from accounts.crypto import Unsealable
from operations.models import EXCLUSIVE, SHARED
from operations.refusals import Conflict, InvalidInput, Unavailable
from proxmox import ProxmoxError
from proxmox.results import GuestConfig
from vms import observe
from vms.asked import CloneOf
from vms.creation import Draft
from vms.models import PAUSED, RUNNING, VirtualMachine
from vms.placement import Need
from vms.preflight import client_of, find_node
from vms.userdata import read_sealed

LOOK_S = 5.0


def draft_clone(source: VirtualMachine, asked: CloneOf, *, by: Actor) -> Draft:
    """Asks Proxmox what its storages can do, since that is not to be guessed.

    Raises Refusal.
    """
    node = find_node(source.cluster, asked.node).name if asked.node else source.node
    client = client_of(source.cluster)
    try:
        config = client.guest_config(source.node, source.vmid, timeout_s=LOOK_S)
        feature = client.guest_feature(
            source.node, source.vmid, "clone" if asked.linked else "copy", timeout_s=LOOK_S
        )
    except ProxmoxError as error:
        raise Unavailable("cluster_unavailable", f"The cluster cannot be asked: {error}") from None
    if not feature.is_available:
        how = "a linked clone of it" if asked.linked else "a full clone of it"
        raise Conflict(
            "clone_unsupported", f"The storage of VM {source} cannot make {how}.", field="linked"
        )
    if node != source.node and feature.nodes and node not in feature.nodes:
        raise InvalidInput(
            "node",
            f"The disks of VM {source} are not reachable from {node}: clone it on {source.node} "
            "and migrate the clone.",
        )
    values = observe.config_values(source, config)
    vm = VirtualMachine(
        cluster=source.cluster,
        vmid=0,
        project=source.project or by.project,
        name=asked.name,
        description=values["description"],
        tags=values["tags"],
        metadata=source.metadata,
        is_ours=True,
        template_name=source.template_name,
        os_type=values["os_type"],
        size=source.size,
        cores=values["cores"],
        memory_mib=values["memory_mib"],
        disk_bytes=values["disk_bytes"],
        cloud_init=values["cloud_init"],
    )
    try:
        user_data = read_sealed(source)
    except Unsealable as error:
        raise Unavailable("secret_unreadable", str(error)) from None
    runs = source.power in {RUNNING, PAUSED}
    return Draft(
        vm=vm,
        source_claim=(source.claim, EXCLUSIVE if runs else SHARED),
        need=Need(
            # It is not started, so it takes no memory yet.
            memory_mib=0,
            disk_bytes=0 if asked.linked else values["disk_bytes"],
            storages=disk_storages(config, asked.storage),
            node=node,
            node_because="asked for" if asked.node else "where its source is",
        ),
        # Proxmox locks a running source for itself.
        lanes=((f"source:{source.vmid}", 1),) if runs else (),
        params={
            "template_name": source.name,
            "template_node": source.node,
            "template_vmid": source.vmid,
            "linked": asked.linked,
            "storage": asked.storage,
            "description": values["description"],
        },
        secrets={"user_data": user_data} if user_data else {},
    )


def disk_storages(config: GuestConfig, storage: str) -> tuple[str, ...]:
    if storage:
        return (storage,)
    disks = (disk for disk in config.disks if not disk.is_cdrom)
    return tuple(sorted({disk.storage for disk in disks if disk.storage}))
