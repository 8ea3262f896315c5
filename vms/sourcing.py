"""From which template a VM is cloned, and on which node: the original, a copy, or with a move.

A template on shared storage can be cloned to every node. One on local storage only where it is, or
where a copy of it is; elsewhere the clone is made where the template is, and then moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from operations.refusals import Conflict
from templates_app.models import Template
from vms.placement import Capacity, Placement


@dataclass(frozen=True)
class Source:
    """A template that can be cloned, as an operation's parameters hold it."""

    vmid: int
    node: str
    storages: tuple[str, ...]
    disk_bytes: int
    is_shared: bool
    is_copy: bool
    # Who it is, None if it has no such uuid; "" where older code has accepted the operation.
    smbios_uuid: str | None = ""

    @classmethod
    def of(cls, template: Template) -> Source:
        return cls(
            vmid=template.vmid,
            node=template.node,
            storages=tuple(template.storages),
            disk_bytes=template.disk_bytes,
            is_shared=template.is_on_shared_storage,
            is_copy=template.copy_of_id is not None,
            smbios_uuid=str(template.smbios_uuid) if template.smbios_uuid else None,
        )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Source:
        return cls(**{**values, "storages": tuple(values["storages"])})


def source_on(node: str, sources: list[Source]) -> Source | None:
    """What can be cloned to this node without a move, one that is there already before others."""
    here = [source for source in sources if source.node == node]
    return next(iter([*here, *(source for source in sources if source.is_shared)]), None)


def nodes_of(sources: list[Source]) -> tuple[str, ...]:
    """The only nodes that a clone can be made for; empty: all."""
    if any(source.is_shared for source in sources):
        return ()
    return tuple(sorted({source.node for source in sources}))


def storages_of(sources: list[Source]) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
    """Where a clone's disks lie: by default, and by node where a source is there already."""
    shared = [source for source in sources if source.is_shared]
    return (shared or sources)[0].storages, {source.node: source.storages for source in sources}


def places(sources: list[Source]) -> str:
    return " and ".join(sorted({source.node for source in sources}))


def placed(params: dict[str, Any], placement: Placement, capacity: Capacity) -> dict[str, Any]:
    """What a creation's parameters say besides, once its node is chosen.

    Raises Conflict where it would have to be moved there and cannot.
    """
    kept = [lane for lane in params.get("lanes", []) if lane[0].startswith("source:")]
    values: dict[str, Any] = {
        "placement": asdict(placement),
        "lanes": [*kept, *capacity.lanes(placement.node, placement.storages)],
    }
    if "hardware" in params:
        values["hardware"] = params["hardware"] | {
            "storage": placement.storages[0],
            "bridge": params["network"] or capacity.bridge_of(placement.node),
        }
    if "sources" in params:
        sources = [Source.from_json(source) for source in params["sources"]]
        here = source_on(placement.node, sources)
        if here is None:
            values |= cloned_elsewhere(params, placement, sources, capacity)
        else:
            values |= {
                "template_vmid": here.vmid,
                "template_node": here.node,
                "template_smbios": here.smbios_uuid,
                "clone_storage": params["storage"],
                "move": None,
            }
            if here.is_copy:
                values["placement"]["reason"] += f"; cloned from the copy there ({here.vmid})"
    return values


def lanes_in(values: Mapping[str, Any]) -> list[tuple[str, int]]:
    """What `placed` wrote of them, read again from JSON."""
    return [(key, limit) for key, limit in values.get("lanes", [])]


def cloned_elsewhere(
    params: dict[str, Any], placement: Placement, sources: list[Source], capacity: Capacity
) -> dict[str, Any]:
    """A clone where the template is, and then a move to where the VM is wanted."""
    source = movable(sources, capacity)
    wanted = params["storage"]
    # At once where the disks are wanted, if the template's node has that storage too: from a shared
    # one the move copies nothing.
    chosen = wanted if (source.node, wanted) in capacity.storages else ""
    storages = (chosen,) if chosen else source.storages
    for name in storages:
        if trouble := capacity.storage_trouble(source.node, name, source.disk_bytes):
            raise Conflict(
                "node_unsuitable",
                f"A VM on {placement.node} would be cloned on {source.node} first, and there "
                f"{trouble}.",
                field="node",
            )
    reason = f"{placement.reason}; cloned on {source.node}, where the template is, and then moved"
    return {
        "template_vmid": source.vmid,
        "template_node": source.node,
        "template_smbios": source.smbios_uuid,
        "clone_storage": chosen,
        "placement": asdict(placement) | {"reason": reason},
        "lanes": capacity.lanes(source.node, storages),
        "move": {
            "node": placement.node,
            "storage": "" if chosen == wanted else wanted,
            "lanes": capacity.lanes(placement.node, placement.storages),
        },
    }


def movable(sources: list[Source], capacity: Capacity) -> Source:
    """One whose node is up, the original first. Raises Conflict."""
    for source in sources:
        if source.node in capacity.nodes and capacity.nodes[source.node].is_online:
            return source
    raise Conflict(
        "no_node",
        f"The template is on local storage of {sources[0].node}, and that node is not online.",
    )
