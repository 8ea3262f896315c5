"""Clusters, and their nodes, storages and networks. Written by inventory and by operators."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from accounts import crypto
from accounts.actors import Actor

PROXMOX, SIMULATOR = "proxmox", "simulator"
PENDING, ONLINE, UNREACHABLE, REFUSED = "pending", "online", "unreachable", "refused"


REPAIRS = [
    ("R1", "R1: forget VMs that have been gone for a day"),
    ("R2", "R2: adopt VMs that bear our mark and are unknown"),
    ("R3", "R3: put our mark back where it was removed"),
]


class Cluster(models.Model):
    """A Proxmox VE cluster, or a standalone node.

    state: pending (never answered) -> online <-> unreachable (its rows are shown as stale)
                                              <-> refused (it answered with an identity, or with
                                                  rights, that forbid to go on; see `error`)
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.SlugField(max_length=63, unique=True)
    kind = models.CharField(
        max_length=10,
        choices=[(PROXMOX, "Proxmox VE"), (SIMULATOR, "Simulator")],
        default=PROXMOX,
        editable=False,
    )
    is_enabled = models.BooleanField(
        "enabled", default=True, help_text="Off: Izvor leaves it alone."
    )
    is_from_environment = models.BooleanField(
        "from the environment",
        default=False,
        editable=False,
        help_text="Made from PROXMOX_URL; its values follow it.",
    )

    endpoints = ArrayField(
        models.CharField(max_length=255),
        help_text="Addresses of one or more of its nodes, e.g. https://pve.example.org:8006",
    )
    user = models.CharField(max_length=100, default="root@pam")
    token_id = models.CharField(
        "token ID",
        max_length=200,
        blank=True,
        help_text="e.g. izvor@pve!api; empty: log in with the password",
    )
    sealed_secret = models.TextField(blank=True, editable=False)
    ca_pem = models.TextField(
        "CA certificate", blank=True, help_text="PEM; empty: the system's CAs"
    )
    fingerprint = models.CharField(
        max_length=95, blank=True, help_text="SHA-256 of the certificate to pin, instead of a CA"
    )
    is_insecure = models.BooleanField(
        "do not check TLS", default=False, help_text="Anyone on the way could read and change all."
    )

    preferred_node = models.CharField(max_length=63, blank=True)
    vmid_min = models.PositiveIntegerField(
        "lowest VMID",
        default=100,
        validators=[MinValueValidator(100), MaxValueValidator(999_999_999)],
    )
    vmid_max = models.PositiveIntegerField(
        "highest VMID",
        default=999_999_999,
        validators=[MinValueValidator(100), MaxValueValidator(999_999_999)],
    )

    repairs = ArrayField(
        models.CharField(max_length=2, choices=REPAIRS),
        default=list,
        blank=True,
        help_text="What Izvor puts right by itself where cluster and database differ; "
        "what differs is shown in any case.",
    )

    # Who it is: seen at first contact, checked ever after.
    pve_name = models.CharField("its own name", max_length=63, blank=True, editable=False)
    ca_fingerprint = models.CharField("its CA", max_length=95, blank=True, editable=False)

    state = models.CharField(
        max_length=12,
        default=PENDING,
        editable=False,
        choices=[(s, s) for s in (PENDING, ONLINE, UNREACHABLE, REFUSED)],
    )
    version = models.CharField(max_length=20, blank=True, editable=False)
    is_quorate = models.BooleanField(default=True, editable=False)
    error = models.TextField(blank=True, editable=False)
    seen_at = models.DateTimeField(null=True, editable=False)
    # Since when, without a break, its lists have held no VM where there had been some.
    empty_since = models.DateTimeField(null=True, editable=False)
    # When inventory looks next, and who is looking now (a lease like the engine's).
    look_due_at = models.DateTimeField(auto_now_add=True)
    look_lease_until = models.DateTimeField(null=True, editable=False)
    poll_lease_until = models.DateTimeField(null=True, editable=False)
    poll_lease_token = models.UUIDField(null=True, editable=False)

    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(
                condition=Q(vmid_min__lte=F("vmid_max")), name="vmid_range_is_not_empty"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_online(self) -> bool:
        """It answered at the last look; one that is switched off is not looked at."""
        return self.is_enabled and self.state == ONLINE

    @property
    def secret(self) -> str:
        """The token's secret, or the password. Raises crypto.Unsealable."""
        return crypto.unseal(self.sealed_secret)

    @secret.setter
    def secret(self, plain: str) -> None:
        self.sealed_secret = crypto.seal(plain)


class VmidCursor(models.Model):
    """Where a cluster's next VMID is looked for: upward, since old backups are filed by VMID."""

    cluster = models.OneToOneField(
        Cluster, on_delete=models.CASCADE, primary_key=True, related_name="vmid_cursor"
    )
    next_vmid = models.PositiveIntegerField(default=100)

    def __str__(self) -> str:
        return f"{self.cluster}: {self.next_vmid}"


class NodeQuerySet(models.QuerySet["Node"]):
    def visible_to(self, actor: Actor) -> NodeQuerySet:
        """Names and states of nodes are for everyone."""
        return self


class Node(models.Model):
    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="nodes")
    name = models.CharField(max_length=63)
    status = models.CharField(max_length=10, default="unknown")
    cores = models.PositiveIntegerField(default=0)
    memory_bytes = models.BigIntegerField(default=0)
    memory_used_bytes = models.BigIntegerField(default=0)
    disk_bytes = models.BigIntegerField(default=0)
    disk_used_bytes = models.BigIntegerField(default=0)
    cpu_fraction = models.FloatField(default=0)
    uptime_s = models.BigIntegerField(default=0)
    synced_at = models.DateTimeField()
    missing_since = models.DateTimeField(null=True)
    networks_due_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[Any] = NodeQuerySet.as_manager()

    class Meta:
        ordering = ["cluster", "name"]
        constraints = [
            models.UniqueConstraint(fields=["cluster", "name"], name="one_node_per_name")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_online(self) -> bool:
        return self.status == "online" and self.missing_since is None


class StorageQuerySet(models.QuerySet["Storage"]):
    def each_once(self) -> list[Storage]:
        """Each shared storage once, as the first node by name sees it; each local one as it is."""
        once: dict[tuple[int, str, str], Storage] = {}
        for storage in self.order_by("cluster", "name", "node"):
            place = "" if storage.is_shared else storage.node
            once.setdefault((storage.cluster_id, storage.name, place), storage)
        return list(once.values())


class Storage(models.Model):
    """A storage as one node sees it; a shared one has a row for each node that has it."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="storages")
    node = models.CharField(max_length=63)
    name = models.CharField(max_length=100)
    kind = models.CharField(max_length=30, help_text="the plugin: dir, lvmthin, zfspool, rbd …")
    is_shared = models.BooleanField(default=False)
    is_available = models.BooleanField(default=True)
    content = ArrayField(models.CharField(max_length=20), default=list)
    total_bytes = models.BigIntegerField(default=0)
    used_bytes = models.BigIntegerField(default=0)
    synced_at = models.DateTimeField()
    missing_since = models.DateTimeField(null=True)

    objects: ClassVar[Any] = StorageQuerySet.as_manager()

    class Meta:
        ordering = ["cluster", "name", "node"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "node", "name"], name="one_storage_per_node_and_name"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} on {self.node}"

    @property
    def place(self) -> list[str]:
        """Where it stands in a list in which each shared storage is once; asks for its cluster."""
        return [self.cluster.name, self.name, "" if self.is_shared else self.node]


class Network(models.Model):
    """A bridge of a node."""

    cluster = models.ForeignKey(Cluster, on_delete=models.CASCADE, related_name="networks")
    node = models.CharField(max_length=63)
    name = models.CharField(max_length=40)
    kind = models.CharField(max_length=30)
    is_active = models.BooleanField(default=True)
    comment = models.CharField(max_length=255, blank=True)
    synced_at = models.DateTimeField()

    class Meta:
        ordering = ["cluster", "node", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["cluster", "node", "name"], name="one_network_per_node_and_name"
            )
        ]

    def __str__(self) -> str:
        return f"{self.name} on {self.node}"
