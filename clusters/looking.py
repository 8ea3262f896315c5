"""Having clusters looked at before a request is answered (`?refresh=true`).

Who answers stands below the inventory, which looks: so this says how when its app is loaded.
"""

from __future__ import annotations

from collections.abc import Callable

from clusters.models import Cluster

Look = Callable[[Cluster], None]
_looks: list[Look] = []


def looks(look: Look) -> Look:
    """What waits until a cluster's rows are of a look that began after the call. It raises
    `operations.refusals.Unavailable`."""
    _looks.append(look)
    return look


def look_now(name: str | None = None) -> None:
    """At the cluster of this name, or at all, one after the other."""
    clusters = Cluster.objects.filter(is_enabled=True).order_by("pk")
    for cluster in clusters.filter(name=name) if name else clusters:
        for look in _looks:
            look(cluster)
