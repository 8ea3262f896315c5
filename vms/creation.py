"""From what was asked to a creation's row and parameters: all that can be refused early, is."""

from __future__ import annotations

import datetime
import re
import uuid
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

from django.conf import settings
from django.db.models.base import ModelState
from django.utils import timezone

from accounts.actors import Actor
from clusters.models import ONLINE, UNREACHABLE, Cluster
from operations.models import SHARED
from operations.refusals import Conflict, InvalidInput, Refusal, Unavailable
from templates_app.models import Template
from vms.asked import CloudInit, NewVm
from vms.models import GIB, Size, VirtualMachine
from vms.placement import Capacity, Need, Placement
from vms.quota import Amount, Headroom
from vms.userdata import iso_storages, sealable

LOST_AFTER = datetime.timedelta(minutes=1)
# Without a size: what API.md promises.
DEFAULT_CORES, DEFAULT_MEMORY_MIB, DEFAULT_DISK_GIB = 1, 1024, 20


@dataclass
class Draft:
    """A creation about to be accepted: the VM's row, unsaved, and the operation's parameters."""

    vm: VirtualMachine
    source_claim: tuple[str, str]
    need: Need
    params: dict[str, Any]
    secrets: dict[str, Any]
    # Where it queues beside its node and storages.
    lanes: tuple[tuple[str, int], ...] = ()
    placement: Placement | None = None

    def place(self, capacity: Capacity) -> Placement:
        """Choose its node. Raises InvalidInput, Conflict."""
        self.placement = placement = capacity.choose(self.need)
        self.vm.node = placement.node
        self.params |= {
            "placement": asdict(placement),
            "need": asdict(self.need),
            "lanes": [*self.lanes, *capacity.lanes(placement.node, self.need.storages)],
        }
        return placement

    def numbered(self, number: int) -> Draft:
        """The same once more, as one of a batch."""
        vm = copy(self.vm)
        # A row of its own, not the first one's again.
        vm._state, vm.uuid = ModelState(), uuid.uuid4()
        vm.name = f"{self.vm.name}-{number}"
        return replace(self, vm=vm, params=dict(self.params))


def draft_vm(asked: NewVm, *, by: Actor) -> Draft:
    """Raises Refusal for what cannot be; asks no cluster, writes nothing, chooses no node yet."""
    template = find_template(asked.template, cluster=asked.cluster, by=by)
    size = find_size(asked.size)
    cores = asked.cores or (size.cores if size else DEFAULT_CORES)
    memory_mib = asked.memory_mib or (size.memory_mib if size else DEFAULT_MEMORY_MIB)
    disk_gib = wanted_disk(asked, size, template)
    cloud_init = asked.cloud_init
    if cloud_init.user_data:
        check_iso_storage(template.cluster)
    elif not cloud_init.is_empty and not template.has_cloud_init:
        raise InvalidInput(
            "cloud_init",
            f"Template {template.name} has no cloud-init drive, so this could not be applied.",
        )
    disk_bytes = max(disk_gib * GIB, template.disk_bytes)
    storages = [asked.storage] if asked.storage else template.storages
    vm = VirtualMachine(
        cluster=template.cluster,
        vmid=0,
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
        cloud_init=cloud_init.shown(),
    )
    return Draft(
        vm=vm,
        source_claim=(template.claim, SHARED),
        need=Need(
            memory_mib=memory_mib,
            disk_bytes=0 if asked.linked else disk_bytes,
            storages=tuple(storages),
            node=asked.node,
            network=asked.network,
            only_on=() if template.is_on_shared_storage else (template.node,),
            only_because=f"template {template.name} is on local storage of {template.node}",
        ),
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
            "cloud_init": cloud_init.without_secret(),
            "start_on_create": asked.start_on_create,
            "keep": asked.keep,
        },
        secrets=secrets_in(cloud_init),
    )


def secrets_in(cloud_init: CloudInit) -> dict[str, Any]:
    """What is sealed with the operation: user-data with all that goes into its ISO, or a password
    for Proxmox's own cloud-init drive."""
    if cloud_init.user_data:
        return {"user_data": sealable(cloud_init)}
    return {"password": cloud_init.password} if cloud_init.password else {}


def check_iso_storage(cluster: Cluster) -> None:
    """Raises Conflict where no storage takes the ISO that carries user-data."""
    if not iso_storages(cluster.pk):
        named = settings.IZVOR_USERDATA_STORAGE
        raise Conflict(
            "no_iso_storage",
            f"{cluster} has no storage {named or 'that takes ISO images'} "
            "for the ISO that carries the user-data.",
            field="cloud_init.user_data",
        )


def fit(
    drafts: list[Draft], capacity: Capacity, headroom: Headroom, *, at_least: int
) -> list[Draft]:
    """Those that find a node and are within the quota, placed; in the order that was asked for.

    Raises Refusal, with what stood against the next, when they are fewer than `at_least`.
    """
    fitting: list[Draft] = []
    for draft in drafts:
        try:
            draft.place(capacity)
            headroom.take(Amount.of(draft.vm))
        except Refusal:
            if len(fitting) < at_least:
                raise
            break
        fitting.append(draft)
    return fitting


def draft_batch(asked: NewVm, *, by: Actor) -> list[Draft]:
    """One draft, or with `count` so many, numbered from 1. Raises Refusal as `draft_vm`."""
    draft = draft_vm(asked, by=by)
    if asked.count is None:
        return [draft]
    return [draft.numbered(number) for number in range(1, asked.count + 1)]


def least_of(asked: NewVm) -> int:
    return asked.min_count or asked.count or 1


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
    if is_lost(template.cluster):
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


def is_lost(cluster: Cluster) -> bool:
    """Not worth asking. One failed look says little: within a minute, Proxmox itself is asked."""
    if cluster.state == ONLINE:
        return False
    seen = cluster.seen_at
    return cluster.state != UNREACHABLE or seen is None or timezone.now() - seen > LOST_AFTER


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
