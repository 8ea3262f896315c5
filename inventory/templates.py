"""Templates: the cluster's list against our rows, as for VMs.

in both, different   the row follows
only on the cluster  one that is back, or that nobody made through us
only in our rows     marked as missing, not dropped; a copy takes its place
"""

from __future__ import annotations

import datetime
from typing import Any

from django.db import transaction

from clusters.models import Cluster
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
    busy = VirtualMachine.objects.filter(cluster=cluster, deleted_at=None).exclude(doing="")
    gone = Template.objects.filter(cluster=cluster, vmid__in=found).exclude(missing_since=None)
    # The last that stood under each number.
    former = {template.vmid: template for template in gone.order_by("missing_since", "pk")}
    left = [vmid for vmid, template in former.items() if not has_settled(template, began)]
    skipped = {*busy.values_list("vmid", flat=True), *left}
    back = {vmid for vmid in former.keys() - skipped if was_not_deleted(former[vmid])}
    take_back([former[vmid] for vmid in back], found, began)
    Template.objects.bulk_create(
        [
            Template(cluster=cluster, vmid=vmid, synced_at=began, **template_values(guest))
            for vmid, guest in found.items()
            if vmid not in skipped | back
        ],
        ignore_conflicts=True,
    )


def was_not_deleted(gone: Template) -> bool:
    """It went missing. Whoever deletes one writes that the list counts for it only later."""
    assert gone.missing_since is not None, "it is not there"
    return has_settled(gone, gone.missing_since)


def take_back(
    templates: list[Template], found: dict[int, GuestUsage], began: datetime.datetime
) -> None:
    """They are there again, and still whose they were: Proxmox knows nothing of that.

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
