"""Templates: the cluster's list against our rows, as for VMs.

    in both, different   the row follows
    only on the cluster  one that is back, that was a VM, or that nobody made through us
    only in our rows     marked as missing, not dropped; a copy takes its place

Proxmox knows neither whose a template is nor who may see it: what is known here of one, or of the
VM that it was, counts on.
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction

from clusters.models import Cluster
from events.models import record_event
from inventory.guests import counts_for
from proxmox.results import GuestUsage, Resources
from templates_app.models import Template
from vms.models import UNKNOWN, VirtualMachine
from vms.observe import tags_of


def sync_templates(cluster: Cluster, resources: Resources, began: datetime.datetime) -> None:
    listed = {guest.vmid: guest for guest in resources.guests}
    known = {t.vmid: t for t in Template.objects.living().filter(cluster=cluster)}
    there = {v: g for v, g in listed.items() if g.is_template and g.status != UNKNOWN}
    for vmid in there.keys() & known.keys():
        template, values = known[vmid], template_values(there[vmid])
        differs = any(getattr(template, name) != value for name, value in values.items())
        if differs and has_settled(template, began):
            Template.objects.filter(pk=template.pk).update(synced_at=began, **values)
    found = {vmid: there[vmid] for vmid in there.keys() - known.keys()}
    if found:
        add_found_templates(cluster, found, began)
    gone = [
        template.pk
        for vmid, template in known.items()
        if vmid not in there
        and has_settled(template, began)
        and not (vmid in listed and listed[vmid].status == UNKNOWN)
    ]
    if gone:
        Template.objects.filter(pk__in=gone).mark_missing(began)


def template_values(guest: GuestUsage) -> dict[str, Any]:
    return {
        "node": guest.node,
        "name": guest.name or f"template-{guest.vmid}",
        "tags": tags_of(guest.tags),
    }


def has_settled(template: Template, began: datetime.datetime) -> bool:
    """May a list asked for at `began` be believed about this template?"""
    return template.settled_at is None or began >= template.settled_at


def add_found_templates(
    cluster: Cluster, found: dict[int, GuestUsage], began: datetime.datetime
) -> None:
    """But those that a task of ours is making, and writes itself, or has just deleted."""
    machines = VirtualMachine.objects.filter(cluster=cluster, deleted_at=None, vmid__in=found)
    # What a failed creation has left is made or deleted by whoever retries or deletes that.
    busy = {vm.vmid for vm in machines if vm.has_failed or not counts_for(vm, began)}
    gone = Template.objects.filter(cluster=cluster, vmid__in=found).exclude(missing_since=None)
    # The last that stood under each number.
    former = {template.vmid: template for template in gone.order_by("missing_since", "pk")}
    left = {vmid for vmid, template in former.items() if not has_settled(template, began)}
    new = found.keys() - busy - left
    for vm in machines:
        if vm.vmid in new and vm.smbios_uuid is not None:
            follow_conversion(vm, found[vm.vmid], began)
            new.remove(vm.vmid)
    back = {vmid for vmid in former.keys() & new if was_not_deleted(former[vmid])}
    take_back([former[vmid] for vmid in back], found, began)
    Template.objects.bulk_create(
        [
            Template(cluster=cluster, vmid=vmid, synced_at=began, **template_values(found[vmid]))
            for vmid in new - back
        ],
        ignore_conflicts=True,
    )


def follow_conversion(vm: VirtualMachine, guest: GuestUsage, began: datetime.datetime) -> None:
    """A VM was made a template in Proxmox, or by a task that did not see its end.

    It is for those for whom the VM was, as far as it was somebody's. Reading it tells whether it is
    that VM.
    """
    with transaction.atomic():
        rows = VirtualMachine.objects.filter(pk=vm.pk, doing="", deleted_at=None).update(
            deleted_at=began, missing_since=began
        )
        if rows != 1:
            return
        Template.objects.create(
            # The handle of a conversion by Izvor.
            uuid=vm.uuid,
            cluster_id=vm.cluster_id,
            vmid=vm.vmid,
            project_id=vm.project_id,
            is_published=vm.project_id is None and not vm.is_ours,
            smbios_uuid=vm.smbios_uuid,
            synced_at=began,
            **template_values(guest),
        )
        record_event(
            "vm.converted_outside",
            by="proxmox",
            project_id=vm.project_id,
            subject=vm.uuid,
            label=str(vm),
        )


def was_not_deleted(gone: Template) -> bool:
    """It went missing. Whoever deletes one writes that the list counts for it only later."""
    assert gone.missing_since is not None, "it is not there"
    return has_settled(gone, gone.missing_since)


def take_back(
    templates: list[Template], found: dict[int, GuestUsage], began: datetime.datetime
) -> None:
    """They are there again, and still whose they were.

    They are read anew, which tells whether they are the same ones. One whose place a copy has taken
    is a copy itself from now on.
    """
    with transaction.atomic():
        for template in templates:
            Template.objects.filter(pk=template.pk).update(
                missing_since=None,
                details_at=None,
                synced_at=began,
                **template_values(found[template.vmid]),
            )
        Template.objects.give_heirs()
