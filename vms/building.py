"""From "a template of this cloud image" to the row and parameters of its making.

It is made as a VM, and is one until the last step converts it: so its number is reserved, its mark
written and its undoing done as for any other VM.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from accounts.actors import Actor
from clusters.models import Cluster
from operations.models import EXCLUSIVE, SHARED
from operations.refusals import Conflict, InvalidInput, Unavailable
from templates_app.models import Template
from vms.asked import NewTemplate
from vms.creation import Draft
from vms.images import IMPORT, Image, find_image
from vms.installing import DEFAULT_IP_CONFIG, require_imports
from vms.models import GIB, OSTYPES, VirtualMachine
from vms.placement import (
    Capacity,
    Need,
    Placement,
    check_online,
    find_cluster,
    free_bytes,
    trouble_with,
)
from vms.volumes import image_file

# Room for a disk whose size only the image knows.
LEAST_DISK_BYTES = 4 * GIB


@dataclass
class TemplateDraft(Draft):
    """Where it is downloaded to is known when its node is."""

    asked: NewTemplate | None = None

    def place(self, capacity: Capacity) -> Placement:
        """Raises InvalidInput, Conflict."""
        placement = super().place(capacity)
        # There the image is fetched to, so there it stays, also when the node goes down meanwhile.
        self.params["need"] |= {"node": placement.node, "node_because": placement.reason}
        if self.asked is not None and self.asked.url:
            self.params["download"] = download = self.download(capacity, placement.node)
            self.params["hardware"]["image"] = download["volid"]
        return placement

    def download(self, capacity: Capacity, node: str) -> dict[str, Any]:
        """What is fetched, and to where; the URL as it may be shown."""
        asked = self.asked
        assert asked is not None, "place() has it"
        storage = image_storage(capacity, node, asked.image_storage)
        file = image_file(self.vm.uuid, asked.format)
        return {
            "url": shown_url(asked.url),
            "volid": f"{storage}:{IMPORT}/{file}",
            "node": node,
            "storage": storage,
            "checksum": asked.checksum,
            "algorithm": asked.algorithm,
            "lanes": capacity.lanes(node, [storage]),
        }


def draft_template(asked: NewTemplate) -> TemplateDraft:
    """Raises Refusal for what cannot be; asks Proxmox for an image that is there already."""
    image: Image | None = None
    if asked.volume:
        image = find_image(
            asked.volume, named_in="volume", cluster=asked.cluster, contents={IMPORT}
        )
    cluster = image.cluster if image else only_cluster(asked.cluster)
    require_imports(cluster)
    check_name_is_free(cluster, asked.name)
    vm = row_of(asked, cluster)
    vm.os_template = image.volid if image else ""
    only_on, only_because = where(asked, image, Capacity(cluster))
    return TemplateDraft(
        kind="build_template",
        asked=asked,
        vm=vm,
        source_claims=((name_claim(cluster, asked.name), EXCLUSIVE),),
        need=Need(
            # It is never started.
            memory_mib=0,
            disk_bytes=max(vm.disk_bytes, LEAST_DISK_BYTES),
            storages=(asked.storage,) if asked.storage else (),
            picks_storage=not asked.storage,
            node=asked.node,
            network=asked.network,
            only_on=only_on,
            only_because=only_because,
        ),
        params=params_of(asked, vm),
        secrets={"url": asked.url} if asked.url else {},
    )


def row_of(asked: NewTemplate, cluster: Cluster) -> VirtualMachine:
    """Nobody's: counted in no quota, and seen by operators only."""
    cloud_init = {"user": asked.user, "ip_config": DEFAULT_IP_CONFIG}
    return VirtualMachine(
        cluster=cluster,
        vmid=0,
        project=None,
        name=asked.name,
        description=asked.description,
        tags=sorted(set(asked.tags)),
        is_ours=True,
        os_type=asked.os_type,
        cores=asked.cores,
        memory_mib=asked.memory_mib,
        disk_bytes=(asked.disk_gib or 0) * GIB,
        network=asked.network,
        cloud_init={name: value for name, value in cloud_init.items() if value},
    )


def params_of(asked: NewTemplate, vm: VirtualMachine) -> dict[str, Any]:
    return {
        "description": asked.description,
        "cores": vm.cores,
        "memory_mib": vm.memory_mib,
        "tags": vm.tags,
        "network": asked.network,
        "cloud_init": vm.cloud_init,
        "disk_gib": asked.disk_gib or 0,
        "download": None,
        "hardware": {
            "ostype": OSTYPES[asked.os_type],
            "iso": "",
            "image": vm.os_template,
            "disk_gib": 0,
        },
    }


def only_cluster(name: str) -> Cluster:
    """The one that is named, or the only one. Raises InvalidInput, Unavailable."""
    if name:
        return find_cluster(name)
    clusters = list(Cluster.objects.filter(is_enabled=True))
    if not clusters:
        raise Unavailable("cluster_unavailable", "There is no cluster yet.")
    if len(clusters) > 1:
        names = ", ".join(cluster.name for cluster in clusters)
        raise InvalidInput("cluster", f"There are several clusters ({names}): name one.")
    check_online(clusters[0])
    return clusters[0]


def check_name_is_free(
    cluster: Cluster,
    name: str,
    *,
    seen_by: Actor | None = None,
    besides: Template | None = None,
) -> None:
    """Raises Conflict: by a name that exists twice nobody who sees both could ask for either."""
    templates = Template.objects.visible_to(seen_by) if seen_by else Template.objects.living()
    named = templates.originals().filter(cluster=cluster, name=name)
    if besides is not None:
        named = named.exclude(pk=besides.pk)
    other = named.first()
    if other is not None:
        raise Conflict(
            "template_exists",
            f"{cluster} has a template {name} already ({other.vmid}).",
            field="name",
        )


def name_claim(cluster: Cluster, name: str, project_id: int | None = None) -> str:
    """Held while a template of this name is made, so that two are not: for all to see, or for a
    project alone."""
    whose = name if project_id is None else f"{name} {project_id}"
    return f"template-name:{uuid.uuid5(cluster.uuid, whose)}"


def name_claims(vm: VirtualMachine, *, published: bool) -> list[tuple[str, str]]:
    """Of a VM that becomes a template. Two projects may make one of the same name at once, but
    none while one for all is made."""
    to_all = name_claim(vm.cluster, vm.name)
    if published:
        return [(to_all, EXCLUSIVE)]
    return [(to_all, SHARED), (name_claim(vm.cluster, vm.name, vm.project_id), EXCLUSIVE)]


def where(
    asked: NewTemplate, image: Image | None, capacity: Capacity
) -> tuple[tuple[str, ...], str]:
    """The only nodes that can make it, and the reason against the others. Raises Refusal."""
    if image is not None:
        return image.nodes, f"it does not see {image.volid}"
    wanted = asked.image_storage
    if wanted and wanted not in {name for _, name in capacity.storages}:
        raise InvalidInput("image_storage", f"{capacity.cluster} has no storage {wanted!r}.")
    able = tuple(
        sorted(
            {
                node
                for (node, name), storage in capacity.storages.items()
                if wanted in {"", name} and not trouble_with(storage, 0, IMPORT)
            }
        )
    )
    if not able:
        which = f"Storage {wanted}" if wanted else f"No storage of {capacity.cluster}"
        raise Conflict(
            "no_import_storage",
            f"{which} takes cloud images: add the content type Import to one in Proxmox "
            "(Datacenter, Storage).",
            field="image_storage",
        )
    return able, "it has no storage for cloud images (content type Import)"


def image_storage(capacity: Capacity, node: str, wanted: str) -> str:
    """Where the image is kept until its disk is made: the node's storage with most room."""
    able = [
        storage
        for (place, name), storage in capacity.storages.items()
        if place == node and wanted in {"", name} and not trouble_with(storage, 0, IMPORT)
    ]
    return max(able, key=lambda storage: (free_bytes(storage), storage.name)).name


def shown_url(url: str) -> str:
    """Without what may be a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
