"""Choosing VMIDs. A number is reserved by the row that bears it; this only finds the next ones."""

from __future__ import annotations

from accounts.sql import rows
from clusters.models import Cluster, VmidCursor
from operations.refusals import Conflict

# How many numbers are looked at in one statement, at first and at most.
FEW, MANY = 4, 1000
# The next numbers from the cursor on that no living VM or template has, and that were not given up
# to a foreign VM lately. The cursor moves behind them in the same moment, or behind all that was
# looked at.
TAKE = """
    WITH held AS (
        SELECT cluster_id,
            CASE WHEN next_vmid BETWEEN %(min)s AND %(max)s THEN next_vmid ELSE %(min)s END AS first
        FROM clusters_vmidcursor WHERE cluster_id = %(cluster)s FOR UPDATE
    ), looked_at AS (
        SELECT cluster_id, first, least(first + %(looked_at)s - 1, %(max)s) AS last FROM held
    ), free AS (
        SELECT generate_series(first, last) AS vmid FROM looked_at
        EXCEPT
        SELECT vmid FROM looked_at JOIN vms_virtualmachine USING (cluster_id)
        WHERE vmid BETWEEN first AND last AND deleted_at IS NULL
        EXCEPT
        SELECT vmid FROM looked_at JOIN templates_app_template USING (cluster_id)
        WHERE vmid BETWEEN first AND last AND missing_since IS NULL
        EXCEPT
        SELECT vmid FROM looked_at JOIN vms_givenupvmid USING (cluster_id)
        WHERE vmid BETWEEN first AND last AND until > now()
        ORDER BY vmid LIMIT %(count)s
    ), moved AS (
        UPDATE clusters_vmidcursor AS cursor
        SET next_vmid = 1 + coalesce((SELECT max(vmid) FROM free), last)
        FROM looked_at WHERE cursor.cluster_id = looked_at.cluster_id
    )
    SELECT array(SELECT vmid FROM free ORDER BY vmid) FROM looked_at
"""


class NoVmidLeft(Conflict):
    """Every VMID of the cluster's range is in use; an operator can widen the range."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(
            "no_vmid_left",
            f"All VMIDs of {cluster}, {cluster.vmid_min} to {cluster.vmid_max}, are used.",
        )


def next_vmid(cluster: Cluster) -> int:
    """As `next_vmids`."""
    return next_vmids(cluster, 1)[0]


def next_vmids(cluster: Cluster, count: int) -> list[int]:
    """The next so many numbers upward that nothing known has, wrapping around once.

    Nobody else is given the same numbers, unless those who ask at the same time go once around the
    range: then their rows collide. Raises NoVmidLeft.
    """
    found: list[int] = []
    window, in_vain = max(count, FEW), 0
    while len(found) < count:
        # In a range that is nearly full it comes round to those that it found already.
        free = [vmid for vmid in _take(cluster, count - len(found), window) if vmid not in found]
        found += free
        if not free:
            in_vain, window = in_vain + window, min(4 * window, MANY)
        # All of the range, and what the edges may have cut off.
        if in_vain > cluster.vmid_max - cluster.vmid_min + 2 * MANY:
            raise NoVmidLeft(cluster)
    return found


def _take(cluster: Cluster, count: int, window: int) -> list[int]:
    """Some of them, none where all that was looked at have an owner."""
    wanted = {
        "cluster": cluster.pk,
        "min": cluster.vmid_min,
        "max": cluster.vmid_max,
        "looked_at": window,
        "count": count,
    }
    while not (taken := rows(TAKE, wanted, prepare=True)):
        VmidCursor.objects.get_or_create(cluster=cluster, defaults={"next_vmid": cluster.vmid_min})
    ((free,),) = taken
    return list(free)
