"""Short looks at the cluster before an action is accepted; a silent cluster delays nobody long."""

from __future__ import annotations

from django.conf import settings

from accounts.crypto import Unsealable
from clusters.connect import connect
from clusters.models import Cluster
from clusters.vmids import NoVmidLeft, next_vmid
from operations.refusals import Conflict, Unavailable
from proxmox import Client, ProxmoxError
from vms import observe
from vms.creation import Draft
from vms.job import is_taken
from vms.models import ERROR, UNKNOWN, VirtualMachine

LOOK_S = 1.0
# Numbers in a row that Proxmox may know and inventory does not (yet).
VMID_TRIES = 20


def client_of(cluster: Cluster) -> Client:
    try:
        return connect(cluster, call_s=settings.ENGINE["call_s"])
    except Unsealable as error:
        raise Unavailable("secret_unreadable", str(error)) from None


def with_free_vmid(draft: Draft) -> Draft:
    """Give the VM the next number that neither we nor, as far as it answers, Proxmox knows.

    The number is provisional all the same: a clone under a taken one is noticed and moved.
    """
    cluster = draft.vm.cluster
    client = client_of(cluster)
    try:
        for _ in range(VMID_TRIES):
            draft.vm.vmid = next_vmid(cluster, lambda vmid: is_taken(cluster, vmid))
            try:
                if client.vmid_is_free(draft.vm.vmid, timeout_s=LOOK_S):
                    break
            except ProxmoxError:
                break
    except NoVmidLeft as error:
        raise Conflict("no_vmid_left", str(error)) from None
    return draft


def check_state(vm: VirtualMachine, verb: str, allowed: set[str]) -> None:
    """Refuse a verb that the VM's state forbids; but first ask for the state as it is now."""
    if vm.status == ERROR:
        raise Conflict(
            "wrong_state", f"VM {vm} was not created successfully; it can only be deleted."
        )
    if vm.lock and vm.lock != "suspended":
        raise Conflict("locked", f"VM {vm} is locked in Proxmox ({vm.lock}).")
    if vm.doing or vm.power in allowed:
        return
    power = power_now(vm)
    if power not in allowed:
        wanted = " or ".join(sorted(allowed - {UNKNOWN}))
        raise Conflict("wrong_state", f"VM {vm} is {power}; {verb} needs it to be {wanted}.")


def power_now(vm: VirtualMachine) -> str:
    try:
        status = client_of(vm.cluster).guest_status(vm.node, vm.vmid, timeout_s=LOOK_S)
    except ProxmoxError:
        return vm.power
    observe.save(vm, observe.status_values(status))
    return vm.power


def check_deletable(vm: VirtualMachine) -> None:
    """Refuse what is protected, here or in Proxmox, and what is another VM by now."""
    if vm.is_protected:
        raise Conflict("protected", f"VM {vm} is protected: set `protected` to false first.")
    if vm.doing:
        return
    try:
        config = client_of(vm.cluster).guest_config(vm.node, vm.vmid, timeout_s=LOOK_S)
    except ProxmoxError:
        # Gone already, moved, or silent: the worker looks again, and longer.
        return
    if vm.smbios_uuid and config.smbios_uuid != str(vm.smbios_uuid):
        raise Conflict(
            "vm_replaced",
            f"VMID {vm.vmid} is another VM now (smbios uuid {config.smbios_uuid}, "
            f"it was {vm.smbios_uuid}); read it again before you delete it.",
        )
    if config.protection:
        raise Conflict("protected", f"VM {vm} is protected in Proxmox: unset `protection` there.")
