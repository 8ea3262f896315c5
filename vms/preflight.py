"""Short looks at the cluster before an action is accepted; a silent cluster delays nobody long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import IntegrityError

from accounts.crypto import Unsealable
from clusters.connect import Misconfigured, connect
from clusters.models import REFUSED, Cluster, Node, Storage
from operations.refusals import Conflict, InvalidInput, NotFound, SwitchedOff, Unavailable
from proxmox import Client, ProxmoxError, TimedOut, Unreachable
from proxmox import NotFound as NotInProxmox
from vms import observe
from vms.models import (
    ERROR,
    UNKNOWN,
    UserData,
    VirtualMachine,
    is_template_now,
    protected_in_proxmox,
)
from vms.vmids import next_vmid, next_vmids

LOOK_S = 1.0
# … where nothing that is known already would do instead.
LONG_LOOK_S = 5.0
# Numbers in a row that Proxmox may know and inventory does not (yet).
VMID_TRIES = 20


def client_of(cluster: Cluster) -> Client:
    """Raises Unavailable where Izvor cannot, may not, or was told not to speak to the cluster."""
    if not cluster.is_enabled:
        raise SwitchedOff(cluster)
    try:
        client = connect(cluster, call_s=settings.ENGINE["call_s"])
    except Unsealable as error:
        raise Unavailable("secret_unreadable", str(error)) from None
    except Misconfigured as error:
        raise Unavailable("cluster_unavailable", str(error)) from None
    if cluster.state == REFUSED:
        raise Unavailable("cluster_unavailable", f"Cluster {cluster} is refused: {cluster.error}")
    return client


def give_vmids(cluster: Cluster, vms: list[VirtualMachine]) -> None:
    """Give each VM the next number that neither we nor, as far as it answers, Proxmox knows.

    The numbers are provisional all the same: a clone under a taken one is noticed and moved.
    However many there are, Proxmox is asked for LOOK_S in all.
    """
    client = client_of(cluster)
    until = time.monotonic() + LOOK_S
    for vm, vmid in zip(vms, next_vmids(cluster, len(vms)), strict=True):
        vm.vmid = free_vmid(cluster, client, until, vmid)


@contextmanager
def vmids_are_free() -> Iterator[None]:
    """Raises Conflict where another VM's row was given the number before: they are found without
    holding anybody up, so in a range that is nearly full two can find the same."""
    try:
        yield
    except IntegrityError as error:
        if "one_living_vm_per_vmid" not in str(error):
            raise
        raise Conflict(
            "vmid_taken", "Another VM was given this VMID in the same moment: ask again."
        ) from None


def free_vmid(cluster: Cluster, client: Client, until: float, vmid: int) -> int:
    """This number, or the next that Proxmox says is free."""
    for _ in range(VMID_TRIES):
        left_s = until - time.monotonic()
        if left_s <= 0:
            break
        try:
            if client.vmid_is_free(vmid, timeout_s=left_s):
                break
        except TimedOut:
            # Slow, or silent since inventory looked: the worker asks again, and longer.
            break
        except Unreachable as error:
            raise Unavailable(
                "cluster_unavailable", f"Cluster {cluster} cannot be reached: {error}"
            ) from None
        except ProxmoxError:
            break
        vmid = next_vmid(cluster)
    return vmid


def check_state(vm: VirtualMachine, verb: str, allowed: set[str]) -> None:
    """Refuse a verb that the VM's state forbids; but first ask for the state as it is now."""
    if vm.status == ERROR:
        raise Conflict(
            "wrong_state", f"VM {vm} was not created successfully; it can only be deleted."
        )
    client = client_of(vm.cluster)
    if vm.doing:
        return  # its claim says no, and names the task
    identify(vm, client)
    if is_locked(vm) or vm.power not in allowed:
        look_again(vm, client)
    if is_locked(vm):
        raise Conflict("locked", f"VM {vm} is locked in Proxmox ({vm.lock}).")
    if vm.power not in allowed:
        wanted = " or ".join(sorted(allowed - {UNKNOWN}))
        raise Conflict("wrong_state", f"VM {vm} is {vm.power}; {verb} needs it to be {wanted}.")


def check_as_seen(vm: VirtualMachine) -> None:
    """Refuse what was checked before another task on the VM ended.

    In the transaction that has claimed it: from here on none can.
    """
    (settled_at,) = VirtualMachine.objects.values_list("settled_at").get(pk=vm.pk)
    if settled_at != vm.settled_at:
        raise Conflict(
            "wrong_state", f"Another task on VM {vm} ended in this moment: look, and ask again."
        )


def identify(vm: VirtualMachine, client: Client) -> None:
    """Know who it is before anything is done to it: the worker touches nobody else.

    Inventory reads a found VM soon after it has found it; this is for the seconds before. Raises
    Unavailable when it cannot be read now.
    """
    if vm.smbios_uuid is not None or vm.is_ours:
        return
    try:
        config = client.guest_config(vm.node, vm.vmid, timeout_s=LOOK_S)
    except NotInProxmox:
        return  # the worker finds it elsewhere, or says that it is gone
    except ProxmoxError as error:
        raise Unavailable(
            "vm_unidentified",
            f"VM {vm} was found on the cluster and never read, and cannot be read now: {error}",
        ) from None
    observe.save(vm, observe.config_values(vm, config))


def check_console(vm: VirtualMachine) -> None:
    """Refuse a VM that shows nothing, since it does not run. A task or a lock on it hides nothing.

    As far as is known here: when the console opens, Proxmox is asked who it is and whether it runs.
    """
    if vm.status == ERROR:
        raise Conflict("wrong_state", f"VM {vm} was not created successfully; it has no console.")
    client = client_of(vm.cluster)
    if not vm.doing:
        identify(vm, client)
    elif vm.smbios_uuid is None:
        raise Conflict("wrong_state", f"VM {vm} is not far enough to have a console yet.")
    if not vm.shows_console:
        look_again(vm, client)
    check_shown(vm)


def check_shown(vm: VirtualMachine) -> None:
    if vm.missing_since is not None:
        raise Conflict("wrong_state", f"VM {vm} is no longer on its cluster; it has no console.")
    if not vm.shows_console:
        raise Conflict("wrong_state", f"VM {vm} is {vm.power}; its console needs it to be running.")


def is_locked(vm: VirtualMachine) -> bool:
    """A VM suspended to disk is locked as well, but may be woken."""
    return bool(vm.lock) and vm.lock != "suspended"


def look_again(vm: VirtualMachine, client: Client) -> None:
    """Power and lock as they are now, where the cluster answers soon; else as they were seen."""
    try:
        status = client.guest_status(vm.node, vm.vmid, timeout_s=LOOK_S)
    except ProxmoxError:
        return
    observe.save(vm, observe.status_values(status))


def refuse_protected(vm: VirtualMachine) -> None:
    """Raises Conflict."""
    if vm.why_protected:
        raise Conflict("protected", vm.why_protected)


def check_deletable(vm: VirtualMachine) -> None:
    """Refuse what is protected, here or in Proxmox, and what is a template or another VM by now."""
    refuse_protected(vm)
    client = client_of(vm.cluster)
    if vm.doing:
        return
    identify(vm, client)
    try:
        config = client.guest_config(vm.node, vm.vmid, timeout_s=LOOK_S)
    except ProxmoxError:
        # Gone already, moved, or silent: the worker looks again, and longer.
        return
    if vm.has_failed:
        return  # whatever stands under its number, the worker deletes only what is left of it
    if vm.smbios_uuid and config.smbios_uuid != str(vm.smbios_uuid):
        raise Conflict(
            "vm_replaced",
            f"VMID {vm.vmid} is another VM now (smbios uuid {config.smbios_uuid}, "
            f"it was {vm.smbios_uuid}); read it again before you delete it.",
        )
    if config.is_template:
        raise Conflict("is_template", is_template_now(vm))
    if config.protection:
        raise Conflict("protected", protected_in_proxmox(f"VM {vm}"))


def find_node(cluster: Cluster, name: str) -> Node:
    """Raises InvalidInput when the cluster has none of that name, Conflict when it is down."""
    node = Node.objects.filter(cluster=cluster, name=name, missing_since=None).first()
    if node is None:
        raise InvalidInput("node", f"{cluster} has no node {name!r}.")
    if not node.is_online:
        raise Conflict("node_unsuitable", f"Node {name} is {node.status}.", field="node")
    return node


def check_target(vm: VirtualMachine, name: str) -> None:
    """Can the VM move there?"""
    if find_node(vm.cluster, name).name == vm.node:
        raise Conflict("already_there", f"VM {vm} is on {name} already.", field="node")
    iso = UserData.objects.filter(vm=vm).values_list("volume", flat=True).first() or ""
    storage = iso.partition(":")[0]
    here = Storage.objects.filter(cluster=vm.cluster, node=vm.node, name=storage)
    if here.filter(is_shared=False).exists():
        raise Conflict(
            "local_iso",
            f"The ISO with VM {vm}'s user-data is on {storage}, which only {vm.node} has, so that "
            "it cannot move: set IZVOR_USERDATA_STORAGE to a shared storage for VMs that shall.",
        )
    check_drives(vm)


def check_drives(vm: VirtualMachine) -> None:
    """Proxmox moves no VM with an ISO that only its node has, as one that was installed from it."""
    try:
        config = client_of(vm.cluster).guest_config(vm.node, vm.vmid, timeout_s=LOOK_S)
    except ProxmoxError:
        return  # the worker looks again, and longer
    here = Storage.objects.filter(cluster=vm.cluster, node=vm.node, is_shared=False)
    local = set(here.values_list("name", flat=True))
    held = [
        disk.volume
        for disk in config.disks
        if disk.is_cdrom and not disk.is_cloudinit and disk.storage in local
    ]
    if held:
        raise Conflict(
            "local_iso",
            f"VM {vm} has {', '.join(held)} in its drive, which only {vm.node} has, so that it "
            "cannot move: take it out in Proxmox first.",
        )


def snapshot_names(vm: VirtualMachine) -> set[str] | None:
    """None when the cluster does not say in time: the worker looks again."""
    try:
        found = client_of(vm.cluster).snapshots(vm.node, vm.vmid, timeout_s=LOOK_S)
    except ProxmoxError:
        return None
    return {snapshot.name for snapshot in found if not snapshot.is_current}


def check_new_snapshot(vm: VirtualMachine, name: str, *, named_in: str) -> None:
    if name in (snapshot_names(vm) or ()):
        raise Conflict("snapshot_exists", f"VM {vm} has a snapshot {name} already.", field=named_in)


def check_snapshot(vm: VirtualMachine, name: str) -> None:
    names = snapshot_names(vm)
    if names is not None and name not in names:
        raise NotFound("snapshot_not_found", f"VM {vm} has no snapshot {name!r}.")
