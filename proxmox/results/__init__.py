"""Proxmox's answers as frozen dataclasses: beyond this door nobody reads a JSON key.

Units stand in the names, moments end in `_at` (Unix seconds by the node's clock), booleans read as
claims. `from_api` takes the decoded `data` and raises KeyError, TypeError or ValueError for what
does not have its shape; the client makes `BadAnswer` of that.
"""

from proxmox.results.cluster import (
    ClusterNode,
    ClusterStatus,
    GuestUsage,
    NodeStatus,
    NodeUsage,
    Resources,
    StorageUsage,
    Version,
)
from proxmox.results.config import Disk, GuestConfig, Nic
from proxmox.results.guest import (
    Address,
    AgentInterface,
    Feature,
    GuestStatus,
    PendingOption,
    Snapshot,
    VncTicket,
)
from proxmox.results.series import UsagePoint
from proxmox.results.storage import Bridge, StorageContent
from proxmox.results.task import TaskEntry, TaskStatus

__all__ = [
    "Address",
    "AgentInterface",
    "Bridge",
    "ClusterNode",
    "ClusterStatus",
    "Disk",
    "Feature",
    "GuestConfig",
    "GuestStatus",
    "GuestUsage",
    "Nic",
    "NodeStatus",
    "NodeUsage",
    "PendingOption",
    "Resources",
    "Snapshot",
    "StorageContent",
    "StorageUsage",
    "TaskEntry",
    "TaskStatus",
    "UsagePoint",
    "Version",
    "VncTicket",
]
