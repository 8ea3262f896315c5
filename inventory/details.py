"""What the cluster's list does not hold: templates' disks, bridges, configurations, addresses.

A few at each look, those first that were never read, then the oldest.
"""

from __future__ import annotations

import datetime
import time
import uuid

import structlog
from django.db import transaction
from django.db.models import F, Q, QuerySet, Value
from django.utils import timezone

from clusters.models import Cluster, Node
from events.models import record_event
from inventory.infrastructure import sync_networks
from proxmox import Client, NotFound, ProxmoxError, Unreachable
from proxmox.results import GuestConfig
from templates_app.models import Template
from vms import observe
from vms.models import PAUSED, RUNNING, VirtualMachine
from vms.refresh import write_config

log = structlog.get_logger(__name__)

BUDGET_S = 5.0
TEMPLATES_S = 15.0
READ_S = 5.0
OLD = datetime.timedelta(minutes=10)
PAUSE = datetime.timedelta(minutes=1)
# A VM that has just booted gets its address when its agent is up.
YOUNG_S = 300
VMS_A_LOOK = 20


def read_some(cluster: Cluster, client: Client) -> None:
    """Reads for some seconds at most; the rest comes at the next look."""
    read_templates(cluster, client)
    now = timezone.now()
    for node in cluster.nodes.filter(status="online", networks_due_at__lte=now):
        try:
            sync_networks(cluster, client, node, now)
        except ProxmoxError as error:
            log.info("networks_not_read", node=node.name, error=str(error))
    ends = time.monotonic() + BUDGET_S
    for vm in vms_to_read(cluster, now):
        if time.monotonic() > ends:
            return
        read_vm(vm, client)


def read_templates(cluster: Cluster, client: Client) -> None:
    """Those first that were never read: nothing can be made of them before."""
    ends, silent = time.monotonic() + TEMPLATES_S, set()
    old = Q(details_at=None) | Q(details_at__lt=timezone.now() - OLD)
    known = Template.objects.living().filter(old, cluster=cluster, node__in=online(cluster))
    for template in known.order_by(F("details_at").asc(nulls_first=True)):
        if template.node in silent:
            continue
        if time.monotonic() > ends:
            return
        try:
            config = client.guest_config(template.node, template.vmid, timeout_s=READ_S)
        except ProxmoxError as error:
            log.info("template_not_read", template=template.name, error=str(error))
            if isinstance(error, Unreachable):
                silent.add(template.node)
            continue
        write_template(template, config)


def online(cluster: Cluster) -> QuerySet[Node, str]:
    """The names of the nodes that can be asked."""
    return cluster.nodes.filter(status="online").values_list("name", flat=True)


def write_template(template: Template, config: GuestConfig) -> None:
    known = template.smbios_uuid
    if known and config.smbios_uuid and config.smbios_uuid != str(known):
        replace_template(template)
        return
    Template.objects.filter(pk=template.pk).update(**observe.template_values(template, config))


def replace_template(template: Template) -> None:
    """Another one stands under its number: ours is gone, the new one is read at the next look."""
    now = timezone.now()
    with transaction.atomic():
        if Template.objects.filter(pk=template.pk).mark_missing(now) != 1:
            return
        Template.objects.create(
            cluster=template.cluster,
            vmid=template.vmid,
            node=template.node,
            name=template.name,
            tags=template.tags,
            synced_at=now,
        )
        record_event("template.replaced", by="proxmox", subject=template.uuid, label=template.label)


def vms_to_read(cluster: Cluster, now: datetime.datetime) -> list[VirtualMachine]:
    # Its agent tells its addresses some time after each start.
    uptime = F("usage__uptime_s") * datetime.timedelta(seconds=1)
    has_just_started = Q(power=RUNNING, agent_enabled=True, usage__uptime_s__range=(1, YOUNG_S))
    was_not_asked = Q(ip_address=None) | Q(details_at__lt=Value(now) - uptime)
    # The list shows a paused VM as running: only reading it tells when it goes on.
    is_paused = Q(power=PAUSED, details_at__lt=now - PAUSE)
    return list(
        VirtualMachine.objects.filter(
            Q(details_at=None)
            | Q(details_at__lt=now - OLD)
            | is_paused
            | (has_just_started & was_not_asked),
            cluster=cluster,
            node__in=online(cluster),
            deleted_at=None,
            missing_since=None,
            doing="",
        )
        .select_related("cluster")
        .order_by(F("details_at").asc(nulls_first=True))[:VMS_A_LOOK]
    )


def read_vm(vm: VirtualMachine, client: Client) -> None:
    known = vm.smbios_uuid
    try:
        config = client.guest_config(vm.node, vm.vmid, timeout_s=READ_S)
        if known and config.smbios_uuid and config.smbios_uuid != str(known):
            replace_vm(vm, config)
        elif not write_config(vm, client, config):
            # What a failed creation left, and cannot be proved to be ours.
            put_off(vm)
    except NotFound:
        # Moved or gone: the next list tells which.
        put_off(vm)
    except ProxmoxError as error:
        # It is among the oldest still: who is not put off keeps the others from being read.
        log.info("vm_not_read", vm=str(vm), error=str(error))
        put_off(vm)
    except Exception:
        # Whatever one VM shows, the others are read.
        log.exception("vm_not_read", vm=str(vm))
        put_off(vm)


def put_off(vm: VirtualMachine) -> None:
    """It is not read again soon."""
    VirtualMachine.objects.filter(pk=vm.pk).update(details_at=timezone.now())


def replace_vm(vm: VirtualMachine, config: GuestConfig) -> None:
    """Another VM stands under its number: ours is gone, the new one belongs to nobody."""
    now = timezone.now()
    with transaction.atomic():
        rows = VirtualMachine.objects.filter(pk=vm.pk, doing="", deleted_at=None).update(
            deleted_at=now, missing_since=now
        )
        if rows != 1:
            return
        VirtualMachine.objects.create(
            cluster=vm.cluster,
            vmid=vm.vmid,
            node=vm.node,
            name=config.name or "",
            smbios_uuid=uuid.UUID(config.smbios_uuid) if config.smbios_uuid else None,
        )
        record_event(
            "vm.replaced", by="proxmox", project_id=vm.project_id, subject=vm.uuid, label=str(vm)
        )
