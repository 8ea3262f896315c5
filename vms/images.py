"""ISO and cloud images on the storages: what there is, and the one that a request names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from clusters.models import Cluster, Storage
from operations.refusals import InvalidInput, Unavailable
from proxmox import ProxmoxError
from proxmox.results import StorageContent
from vms.placement import askable_clusters, find_cluster, is_lost
from vms.preflight import LONG_LOOK_S, client_of
from vms.volumes import is_own

ISO, IMPORT = "iso", "import"
_VOLUME = re.compile(r"(?P<storage>[A-Za-z][A-Za-z0-9_.-]*):(?P<content>\w+)/[^/\s,]+")
_NAME = re.compile(r"[A-Za-z0-9_][^/:\s,]*")


@dataclass
class Listing:
    """What lies where, and a sentence for each storage that did not answer."""

    found: list[tuple[Storage, StorageContent]] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    answered: int = 0


def list_images(content: str, **where: str) -> Listing:
    """All of one kind but Izvor's own, each shared storage asked once; `where` narrows the storages
    down."""
    listing = Listing()
    storages = Storage.objects.filter(
        content__contains=[content],
        is_available=True,
        missing_since=None,
        cluster__in=askable_clusters(),
        **where,
    )
    for storage in storages.select_related("cluster").each_once():
        try:
            images = client_of(storage.cluster).storage_content(
                storage.node, storage.name, content=content, timeout_s=LONG_LOOK_S
            )
        except (ProxmoxError, Unavailable) as error:
            listing.silent.append(f"{storage} of {storage.cluster} did not answer: {error}")
            continue
        listing.answered += 1
        listing.found += [(storage, image) for image in images if not is_own(image.volid)]
    return listing


@dataclass(frozen=True)
class Image:
    """A file on a storage. `nodes` are those that see it."""

    cluster: Cluster
    volid: str
    content: str
    nodes: tuple[str, ...]

    @property
    def is_iso(self) -> bool:
        return self.content == ISO

    @property
    def storage(self) -> str:
        return self.volid.partition(":")[0]


def find_image(wanted: str, *, named_in: str, cluster: str, contents: Iterable[str]) -> Image:
    """By its volume ID, or by its file name where that is enough. Asks Proxmox, briefly.

    Raises InvalidInput, for the field `named_in` (unknown, ambiguous) or the cluster; Unavailable
    when a storage that may hold it does not answer.
    """
    where = places_of(wanted, named_in, set(contents))
    if cluster:
        where["cluster__name"] = find_cluster(cluster).name
    found: dict[tuple[int, str], list[tuple[Storage, StorageContent]]] = defaultdict(list)
    # A named one must answer anyway.
    silent = [] if cluster else lost_clusters()
    for content in sorted(contents):
        listing = list_images(content, **where)
        silent += listing.silent
        for storage, image in listing.found:
            if wanted in (image.volid, image.volid.rpartition("/")[2]):
                found[storage.cluster_id, image.volid].append((storage, image))
    if len(found) > 1:
        seen = [places[0] for places in found.values()]
        which = ", ".join(f"{image.volid} on {storage.cluster}" for storage, image in seen)
        raise InvalidInput(
            named_in,
            f"{len(found)} images answer to {wanted!r} ({which}): name one by its volume ID, and "
            "by `cluster` if need be.",
            code="image_ambiguous",
        )
    if not found:
        raise missing(wanted, named_in, silent)
    ((storage, image), *_) = places = next(iter(found.values()))
    return Image(
        cluster=storage.cluster,
        volid=image.volid,
        content=image.content,
        nodes=tuple(sorted({node for storage, _ in places for node in nodes_seeing(storage)})),
    )


def lost_clusters(**where: str) -> list[str]:
    """What cannot be looked at at all, in sentences."""
    away = [other for other in Cluster.objects.filter(is_enabled=True, **where) if is_lost(other)]
    return [f"cluster {other} is {other.state}" for other in away]


def missing(wanted: str, named_in: str, silent: list[str]) -> InvalidInput | Unavailable:
    if silent:
        return Unavailable("image_unknown", f"{wanted} was not found; {'; '.join(silent)}")
    return InvalidInput(named_in, f"There is no image {wanted!r}.", code="image_not_found")


def places_of(wanted: str, named_in: str, contents: set[str]) -> dict[str, str]:
    """On which storages it can be. Raises InvalidInput for what can be no image's name."""
    volume = _VOLUME.fullmatch(wanted)
    if volume and volume["content"] in contents:
        return {"name": volume["storage"]}
    if _NAME.fullmatch(wanted):
        return {}
    forms = " or ".join(f"STORAGE:{content}/FILE" for content in sorted(contents, reverse=True))
    raise InvalidInput(named_in, f"Give an image's volume ID, {forms}, or its file name.")


def nodes_seeing(storage: Storage) -> list[str]:
    """Of a shared storage all nodes that have it, else the one that it is on."""
    if not storage.is_shared:
        return [storage.node]
    same = Storage.objects.filter(
        cluster=storage.cluster, name=storage.name, is_available=True, missing_since=None
    )
    return list(same.values_list("node", flat=True))
