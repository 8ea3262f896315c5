"""From what was asked to a creation's row and parameters: all that can be refused early, is."""

from __future__ import annotations

import uuid
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.db.models.base import ModelState

from accounts.actors import Actor, anybody, sight_of, slots_of
from accounts.prepared import Prepared, Slot
from accounts.rest import as_vmid
from clusters.models import Cluster
from operations.models import SHARED
from operations.refusals import Conflict, InvalidInput, Refusal
from templates_app.models import Template
from vms.asked import CloudInit, NewVm
from vms.models import GIB, OSTYPES, Size, VirtualMachine
from vms.placement import Capacity, Need, Placement, check_online, find_cluster
from vms.quota import Amount, Headroom
from vms.sourcing import Source, nodes_of, placed, places, source_on, storages_of
from vms.userdata import iso_storages, sealable

# Without a size: what API.md promises.
DEFAULT_CORES, DEFAULT_MEMORY_MIB, DEFAULT_DISK_GIB = 1, 1024, 20


@dataclass
class Draft:
    """A creation about to be accepted: the VM's row, unsaved, and the operation's parameters."""

    vm: VirtualMachine
    # What it is made from, which stays there meanwhile.
    source_claims: tuple[tuple[str, str], ...]
    need: Need
    params: dict[str, Any]
    secrets: dict[str, Any]
    # Where it queues beside its node and storages.
    lanes: tuple[tuple[str, int], ...] = ()
    kind: str = "create_vm"
    placement: Placement | None = None

    def place(self, capacity: Capacity) -> Placement:
        """Choose its node. Raises InvalidInput, Conflict."""
        placement = capacity.choose(self.need)
        self.params |= {"need": asdict(self.need), "lanes": [*self.lanes]}
        self.params |= placed(self.params, placement, capacity)
        self.vm.node = placement.node
        self.placement = Placement(**self.params["placement"])
        return self.placement

    def again(self) -> Draft:
        """The same, with a row of its own on the same cluster: what is done to one is not done to
        the other."""
        vm = copy(self.vm)
        vm._state = ModelState()
        vm._state.fields_cache = dict(self.vm._state.fields_cache)
        return replace(self, vm=vm, params=dict(self.params))

    def numbered(self, number: int) -> Draft:
        """Another of the same, as one of a batch."""
        draft = self.again()
        draft.vm.uuid, draft.vm.name = uuid.uuid4(), f"{self.vm.name}-{number}"
        return draft


def draft_vm(asked: NewVm, *, by: Actor) -> Draft:
    """Raises Refusal for what cannot be; asks no cluster, writes nothing, chooses no node yet."""
    template = find_template(asked.template, cluster=asked.cluster, by=by)
    size = find_size(asked.size)
    disk_gib = wanted_disk(asked, size, template)
    check_cloud_init(asked.cloud_init, template)
    family = template.family(COPIES(original=template.pk))
    sources = [Source.of(member) for member in family]
    moves = goes_elsewhere(asked, template, sources)
    storages, storages_at = storages_of(sources)
    vm = new_row(asked, template.cluster, by, size)
    vm.template_name, vm.os_type = template.name, asked.os_type or template.os_type
    vm.disk_bytes = max(disk_gib * GIB, template.disk_bytes)
    return Draft(
        vm=vm,
        source_claims=tuple((member.claim, SHARED) for member in family),
        need=Need(
            cores=vm.cores,
            memory_mib=vm.memory_mib,
            disk_bytes=0 if asked.linked else vm.disk_bytes,
            storages=(asked.storage,) if asked.storage else storages,
            storages_at=() if asked.storage else tuple(storages_at.items()),
            node=asked.node,
            network=asked.network,
            only_on=() if moves else nodes_of(sources),
            only_because=f"template {template.name} is on local storage of {places(sources)}",
        ),
        params={
            **new_params(asked, vm),
            "template_name": template.name,
            "sources": [asdict(source) for source in sources],
            "linked": asked.linked,
            "storage": asked.storage,
            "disk_gib": disk_gib if disk_gib * GIB > template.disk_bytes else 0,
            "ostype": OSTYPES[asked.os_type] if vm.os_type != template.os_type else None,
        },
        secrets=secrets_in(asked.cloud_init),
    )


def check_cloud_init(cloud_init: CloudInit, template: Template) -> None:
    """Raises Refusal where there would be no drive to bring it to the VM."""
    if cloud_init.user_data:
        check_iso_storage(template.cluster)
    elif not cloud_init.is_empty and not template.has_cloud_init:
        raise InvalidInput(
            "cloud_init",
            f"Template {template.name} has no cloud-init drive, so this could not be applied.",
        )


def goes_elsewhere(asked: NewVm, template: Template, sources: list[Source]) -> bool:
    """Is it wanted on a node where it can only be moved to? Raises Conflict for a linked clone."""
    if not asked.node or source_on(asked.node, sources):
        return False
    is_node = template.cluster.nodes.filter(name=asked.node, missing_since=None).exists()
    if asked.linked and is_node:
        raise Conflict(
            "template_not_there",
            f"A linked clone on {asked.node} needs template {template.name} there, and it is on "
            f"local storage of {places(sources)}. An operator can copy it: POST "
            f'/api/v1/templates/{template.vmid}/copies with {{"node": "{asked.node}"}}.',
            field="node",
        )
    return is_node


def new_row(asked: NewVm, cluster: Cluster, by: Actor, size: Size | None) -> VirtualMachine:
    """The row of a VM that is to be, without what depends on its origin."""
    return VirtualMachine(
        cluster=cluster,
        vmid=0,
        project=by.project,
        name=asked.name,
        description=asked.description,
        tags=sorted(set(asked.tags)),
        metadata=asked.metadata,
        is_protected=asked.is_protected,
        is_ours=True,
        size=size,
        cores=asked.cores or (size.cores if size else DEFAULT_CORES),
        memory_mib=asked.memory_mib or (size.memory_mib if size else DEFAULT_MEMORY_MIB),
        network=asked.network,
        cloud_init=asked.cloud_init.shown(),
    )


def new_params(asked: NewVm, vm: VirtualMachine) -> dict[str, Any]:
    """What every creation's steps want to know."""
    return {
        "description": asked.description,
        "cores": vm.cores,
        "memory_mib": vm.memory_mib,
        "tags": vm.tags,
        "network": asked.network,
        "cloud_init": asked.cloud_init.without_secret(),
        "start_on_create": asked.start_on_create,
        "keep": asked.keep,
    }


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
            placement = draft.place(capacity)
            with capacity.given_back_unless_taken(placement, draft.need):
                headroom.take(Amount.of(draft.vm))
        except Refusal:
            if len(fitting) < at_least:
                raise
            break
        fitting.append(draft)
    return fitting


def batch_of(draft: Draft, count: int | None) -> list[Draft]:
    """The draft, or with `count` so many, numbered from 1."""
    if count is None:
        return [draft]
    return [draft.numbered(number) for number in range(1, count + 1)]


def least_of(asked: NewVm) -> int:
    return asked.min_count or asked.count or 1


def find_template(wanted: str, *, cluster: str, by: Actor) -> Template:
    """By name or VMID; a copy stands for its original.

    Raises InvalidInput (unknown, ambiguous), Unavailable (its cluster is).
    """
    where = {"cluster": cluster, **slots_of(by)}
    found, kinds = [], {"in_cluster": bool(cluster), **sight_of(by)}
    vmid = as_vmid(wanted)
    if vmid is not None:
        found = templates("vmid", **kinds)(wanted=vmid, **where)
    found = found or templates("name", **kinds)(wanted=wanted, **where)
    if not found:
        if cluster:
            find_cluster(cluster)
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
    template = found[0].original
    check_online(template.cluster)
    if template.details_at is None:
        raise Conflict(
            "template_not_read", f"Template {template.name} was just found; try again in seconds."
        )
    return template


@cache
def templates(
    field: str, *, in_cluster: bool, is_operator: bool, has_project: bool
) -> Prepared[Template]:
    """Those that the caller may see, by VMID or, the originals, by name."""

    def make() -> QuerySet[Template]:
        seen = Template.objects.visible_to(
            anybody(is_operator=is_operator, has_project=has_project)
        )
        if in_cluster:
            seen = seen.filter(cluster__name=Slot("cluster"), cluster__is_enabled=True)
        seen = seen if field == "vmid" else seen.originals()
        return seen.filter(**{field: Slot("wanted")}).select_related("cluster")

    return Prepared(make)


COPIES = Prepared(lambda: Template.objects.filter(copy_of=Slot("original")).order_by())
SIZES = Prepared(lambda: Size.objects.filter(name=Slot("name")).order_by())


def find_size(name: str) -> Size | None:
    if not name:
        return None
    size = SIZES.first(name=name)
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
