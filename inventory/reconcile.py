"""Where cluster and database differ, as sets: always told, repaired where that was asked for.

    R1  in the database, not on the cluster      missing VMs
    R2  on the cluster, not in the database      VMs and files that bear our mark, of VMs we lost
    R3  in both, different                       our VMs whose mark somebody removed

A VM that bears no mark of ours is no orphan: it is somebody's, and listed without a project. What
both have and only differs in its values (names, sizes, power) needs no rule: the row follows the
cluster at each look, with an event. Repairs go through the actions that people use.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from django.db.models import QuerySet
from django.utils import timezone

from accounts.actors import SYSTEM
from clusters.connect import connect
from clusters.models import Cluster, Storage
from events.models import record_event
from operations.models import Operation
from operations.refusals import Refusal
from proxmox import ProxmoxError
from vms import actions
from vms.attention import MISSING, ORPHAN, UNMARKED, conditions
from vms.models import VirtualMachine
from vms.volumes import vm_of_image, vm_of_user_data

log = structlog.get_logger(__name__)

# How long a VM is missing before R1 forgets it: a node may be away over a night.
FORGET_AFTER = datetime.timedelta(days=1)
READ_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One difference. `vm` is our row for it; an ISO has none."""

    rule: str
    what: str
    vm: VirtualMachine | None = None


def living(cluster: Cluster) -> QuerySet[VirtualMachine]:
    found: QuerySet[VirtualMachine] = VirtualMachine.objects.filter(
        cluster=cluster, deleted_at=None
    ).select_related("cluster")
    return found


def missing(cluster: Cluster) -> QuerySet[VirtualMachine]:
    """R1. An unreachable cluster marks none: its rows are stale."""
    return living(cluster).filter(conditions()[MISSING])


def orphans(cluster: Cluster) -> QuerySet[VirtualMachine]:
    """R2. Their mark names a VM of this cluster that is not this row."""
    return living(cluster).filter(conditions()[ORPHAN])


def unmarked(cluster: Cluster) -> QuerySet[VirtualMachine]:
    """R3. Made by us, read since, and without a mark."""
    return living(cluster).filter(conditions()[UNMARKED])


def lost_files(cluster: Cluster) -> dict[str, str]:
    """R2 for files: volume IDs of what we brought onto storages and nobody needs, with the reason.

    ISOs with the user-data of VMs that are gone, and cloud images that a task could not remove
    again. Another Izvor on the cluster names its files so, too: they are only told. Raises
    ProxmoxError.
    """
    isos = named_in(cluster, "iso", vm_of_user_data)
    images = named_in(cluster, "import", vm_of_image)
    alive = VirtualMachine.objects.filter(uuid__in=isos, deleted_at=None)
    at_work = set(Operation.objects.unfinished().values_list("subject", flat=True))
    of_vms = at_work | set(alive.values_list("uuid", flat=True))
    return {
        **{volid: "is of a VM that is gone" for vm, volid in isos.items() if vm not in of_vms},
        **{volid: "was used and stayed" for vm, volid in images.items() if vm not in at_work},
    }


def named_in(
    cluster: Cluster, content: str, vm_of: Callable[[str], uuid.UUID | None]
) -> dict[uuid.UUID, str]:
    """Volume IDs of this content that bear a VM's uuid, by it."""
    client = connect(cluster)
    storages = Storage.objects.filter(
        cluster=cluster, content__contains=[content], is_available=True, missing_since=None
    )
    volumes = [
        volume.volid
        for storage in storages
        for volume in client.storage_content(
            storage.node, storage.name, content=content, timeout_s=READ_S
        )
    ]
    return {vm: volid for volid in volumes if (vm := vm_of(volid))}


def findings(cluster: Cluster) -> list[Finding]:
    """All differences of a cluster, as the rows have them."""
    return [
        *(
            Finding("R1", f"VM {vm} is gone since {vm.missing_since:%Y-%m-%d %H:%M}", vm)
            for vm in missing(cluster)
        ),
        *(
            Finding(
                "R2", f"VM {vm} bears the mark of {vm.marked_as}, which Izvor does not know", vm
            )
            for vm in orphans(cluster)
        ),
        *(
            Finding("R3", f"VM {vm} was made by Izvor and has lost its mark", vm)
            for vm in unmarked(cluster)
        ),
    ]


def repair(cluster: Cluster) -> int:
    """Put right what the cluster's rules allow; returns how many were."""
    count = 0
    for finding in findings(cluster):
        if finding.rule not in cluster.repairs or finding.vm is None:
            continue
        try:
            count += repair_one(finding.rule, finding.vm)
        except (Refusal, ProxmoxError) as error:
            log.info("not_repaired", rule=finding.rule, vm=str(finding.vm), error=str(error))
    return count


def repair_one(rule: str, vm: VirtualMachine) -> bool:
    """Raises Refusal."""
    match rule:
        case "R1":
            assert vm.missing_since is not None, "missing() has chosen it"
            if timezone.now() - vm.missing_since < FORGET_AFTER:
                return False
            actions.forget_vm(vm=vm, by=SYSTEM)
        case "R2":
            actions.adopt_vm(vm=vm, project=vm.project, by=SYSTEM)
        case _:
            actions.mark_vm(vm=vm, by=SYSTEM)
    record_event("vm.repaired", by=SYSTEM, subject=vm.uuid, label=str(vm), rule=rule)
    return True
