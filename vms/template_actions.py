"""The verbs of templates: made of an image, copied to another node, deleted.

As in `vms.actions`: meaning is checked, Proxmox asked briefly, then rows and operation written.
"""

from __future__ import annotations

import uuid

from django.db import transaction

from accounts.actors import Actor
from operations.claims import Claimed
from operations.enqueue import enqueue
from operations.models import EXCLUSIVE, Claim, Operation
from operations.refusals import Conflict, Unavailable
from proxmox import Client, ProxmoxError
from proxmox import NotFound as NotInProxmox
from proxmox.results import GuestConfig
from templates_app.models import Template
from vms.accepting import accept
from vms.asked import NewTemplate
from vms.building import draft_template
from vms.copying import draft_copy
from vms.models import VirtualMachine, protected_in_proxmox
from vms.preflight import LOOK_S, client_of
from vms.template_job import is_it


def build_template(*, asked: NewTemplate, by: Actor) -> Operation:
    """Make a template of a cloud image, which is fetched first if need be."""
    return accept([draft_template(asked)], by)[0][1]


def copy_template(*, template: Template, node: str, storage: str, by: Actor) -> Operation:
    """Make a template on local storage usable on another node."""
    return accept([draft_copy(template.original, node=node, storage=storage)], by)[0][1]


def delete_template(*, template: Template, by: Actor) -> Operation:
    """Destroy the template with its disks. VMs that were cloned from it in full stay."""
    check_deletable(template)
    with transaction.atomic():
        return enqueue(
            "delete_template",
            cluster=template.cluster,
            by=by,
            wants=[(template.claim, EXCLUSIVE)],
            subject=template.uuid,
            label=template.label,
            project_id=template.project_id,
        )


def check_deletable(template: Template) -> None:
    """Raises Conflict for one in use, protected or replaced, Unavailable for one never read."""
    held = Claim.objects.filter(object=template.claim).select_related("operation").first()
    if held is not None:
        raise Claimed(held.operation)
    copies = [str(copy.vmid) for copy in template.family()[1:]]
    if copies:
        raise Conflict(
            "template_has_copies",
            f"Template {template.name} has copies on other nodes ({', '.join(copies)}): delete "
            "them first.",
        )
    client = client_of(template.cluster)
    try:
        config = client.guest_config(template.node, template.vmid, timeout_s=LOOK_S)
        identify(template, config)
        clones = linked_clones(template, config, client)
    except NotInProxmox:
        return  # moved, or gone already: the worker tells
    except ProxmoxError as error:
        if template.smbios_uuid is None:
            raise Unavailable(
                "template_unidentified",
                f"Template {template.name} was found on the cluster and never read, and cannot be "
                f"read now: {error}",
            ) from None
        return  # silent for the moment: the worker looks again, and longer
    if config.protection:
        raise Conflict("protected", protected_in_proxmox(f"Template {template.name}"))
    if clones:
        raise Conflict(
            "has_linked_clones",
            f"On the disks of template {template.name} there are linked clones: "
            f"{', '.join(clones)}. Delete those first.",
        )


def identify(template: Template, config: GuestConfig) -> None:
    """Know who it is before anything is done to it. Raises Conflict when it is another by now."""
    if template.smbios_uuid is None and config.smbios_uuid:
        template.smbios_uuid = uuid.UUID(config.smbios_uuid)
        template.save(update_fields=["smbios_uuid"])
    if not config.is_template or not is_it(template, config):
        raise Conflict(
            "template_replaced",
            f"VMID {template.vmid} is something else now (smbios uuid {config.smbios_uuid}, it was "
            f"{template.smbios_uuid}); read it again before you delete it.",
        )


def linked_clones(template: Template, config: GuestConfig, client: Client) -> list[str]:
    """Of the volumes on its storages, those that Proxmox files under one of its disks.

    Storages such as LVM-thin do not file them so; there the clones live on without the template.
    """
    bases = [f"{disk.volume}/" for disk in config.disks if disk.storage and not disk.is_cdrom]
    vmids = {
        volume.vmid
        for storage in sorted({base.partition(":")[0] for base in bases})
        for volume in client.storage_content(
            template.node, storage, content="images", timeout_s=LOOK_S
        )
        if volume.volid.startswith(tuple(bases)) and volume.vmid is not None
    }
    known = VirtualMachine.objects.filter(
        cluster=template.cluster, vmid__in=vmids, deleted_at=None
    ).values_list("vmid", "name")
    names = dict(known)
    return [f"VM {vmid} {names.get(vmid, '')}".strip() for vmid in sorted(vmids)]
