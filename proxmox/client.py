"""The client: one for each cluster, shared by all threads."""

from __future__ import annotations

from proxmox.cluster_calls import ClusterCalls
from proxmox.guest_calls import GuestCalls
from proxmox.power_calls import PowerCalls
from proxmox.storage_calls import StorageCalls
from proxmox.task_calls import TaskCalls


class Client(ClusterCalls, GuestCalls, PowerCalls, TaskCalls, StorageCalls):
    """Everything that Izvor asks of Proxmox VE.

    `endpoints` are addresses of one cluster (`https://pve1:8006`), in order of preference.
    `timeout_s` is the total deadline of a call, name resolution, TLS and retries included; every
    method takes its own. Questions are asked again elsewhere when an endpoint fails; what changes
    something is sent once, and gives the UPID of its task, or None where it was done at once.

    Every method raises ValueError, before anything is sent, for what cannot be a node name, VMID,
    storage … and otherwise only the errors of `proxmox.errors`.
    """
