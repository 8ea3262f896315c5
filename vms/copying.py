"""From "this template on that node as well" to the row and parameters of the copy."""

from __future__ import annotations

import uuid
from dataclasses import asdict

from operations.models import EXCLUSIVE, SHARED
from operations.refusals import Conflict, InvalidInput
from templates_app.models import Template
from vms.creation import Draft
from vms.models import VirtualMachine
from vms.placement import Need
from vms.sourcing import Source, source_on


def draft_copy(template: Template, *, node: str, storage: str = "") -> Draft:
    """A full clone where the template is, moved to the node, and converted there.

    Raises InvalidInput, Conflict (`already_there`).
    """
    if not template.cluster.nodes.filter(name=node, missing_since=None).exists():
        raise InvalidInput("node", f"{template.cluster} has no node {node!r}.")
    check_is_not_there(template, node)
    family = template.family()
    sources = [Source.of(member) for member in family]
    return Draft(
        kind="copy_template",
        vm=row_of(template),
        source_claims=(
            *((member.claim, SHARED) for member in family),
            (copy_claim(template, node), EXCLUSIVE),
        ),
        need=Need(
            memory_mib=0,
            disk_bytes=template.disk_bytes,
            storages=(storage,) if storage else tuple(template.storages),
            node=node,
        ),
        params={
            "copy_of": str(template.uuid),
            "template_name": template.name,
            "sources": [asdict(source) for source in sources],
            "linked": False,
            "storage": storage,
            "description": template.description,
        },
        secrets={},
    )


def row_of(template: Template) -> VirtualMachine:
    """The copy while it is still a VM: nobody's, as any template in the making."""
    return VirtualMachine(
        cluster=template.cluster,
        vmid=0,
        project=None,
        name=template.name,
        description=template.description,
        tags=template.tags,
        is_ours=True,
        template_name=template.name,
        os_type=template.os_type,
        cores=template.cores,
        memory_mib=template.memory_mib,
        disk_bytes=template.disk_bytes,
    )


def check_is_not_there(template: Template, node: str) -> None:
    """Raises Conflict where the template, or a copy of it, can be used already."""
    there = source_on(node, [Source.of(member) for member in template.family()])
    if there is not None:
        how = "on shared storage" if there.is_shared else f"on {node} ({there.vmid})"
        raise Conflict("already_there", f"Template {template.name} is {how} already.", field="node")


def copy_claim(template: Template, node: str) -> str:
    """Held while a copy is made there, so that two are not."""
    return f"template-copy:{uuid.uuid5(template.uuid, node)}"
