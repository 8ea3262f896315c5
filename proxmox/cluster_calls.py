"""Questions to the cluster and its nodes."""

from __future__ import annotations

from collections.abc import Mapping

from proxmox import validate
from proxmox.calls import Caller
from proxmox.errors import Conflict
from proxmox.results import (
    Bridge,
    ClusterStatus,
    GuestUsage,
    NodeStatus,
    NodeUsage,
    Resources,
    StorageContent,
    StorageUsage,
    UsagePoint,
    Version,
)
from proxmox.results._read import flag, row, rows, text


class ClusterCalls(Caller):
    def version(self, *, timeout_s: float | None = None) -> Version:
        """Answered even where the worker daemon is down: no health check."""
        return self._ask(Version.from_api, "version", timeout_s=timeout_s)

    def cluster_status(self, *, timeout_s: float | None = None) -> ClusterStatus:
        return self._ask(ClusterStatus.from_api, "cluster/status", timeout_s=timeout_s)

    def resources(self, *, timeout_s: float | None = None) -> Resources:
        """Everything in one cheap call, up to 10 s old. A token without rights gets empty lists."""
        return self._ask(Resources.from_api, "cluster/resources", timeout_s=timeout_s)

    def nodes(self, *, timeout_s: float | None = None) -> tuple[NodeUsage, ...]:
        return self._ask(
            lambda data: tuple(NodeUsage.from_api(item) for item in rows(data)),
            "nodes",
            timeout_s=timeout_s,
        )

    def node_status(self, node: str, *, timeout_s: float | None = None) -> NodeStatus:
        return self._ask(NodeStatus.from_api, "nodes/{node}/status", node=node, timeout_s=timeout_s)

    def storages(self, node: str, *, timeout_s: float | None = None) -> tuple[StorageUsage, ...]:
        """The storages of this node, as it sees them now."""
        return self._ask(
            lambda data: tuple(StorageUsage.from_api(item, node=node) for item in rows(data)),
            "nodes/{node}/storage",
            node=node,
            timeout_s=timeout_s,
        )

    def storage_content(
        self,
        node: str,
        storage: str,
        content: str | None = None,
        vmid: int | None = None,
        *,
        timeout_s: float | None = None,
    ) -> tuple[StorageContent, ...]:
        """Volumes, of one kind (`iso`, `images`, `import` …) or one guest."""
        values = {
            "content": None if content is None else validate.content(content),
            "vmid": None if vmid is None else validate.vmid(vmid),
        }
        return self._ask(
            lambda data: tuple(StorageContent.from_api(item) for item in rows(data)),
            "nodes/{node}/storage/{storage}/content",
            node=node,
            storage=storage,
            values=values,
            timeout_s=timeout_s,
        )

    def networks(self, node: str, *, timeout_s: float | None = None) -> tuple[Bridge, ...]:
        """What a network card can be plugged into, SDN's vnets included."""
        return self._ask(
            lambda data: tuple(Bridge.from_api(item) for item in rows(data)),
            "nodes/{node}/network",
            node=node,
            values={"type": "any_bridge"},
            timeout_s=timeout_s,
        )

    def ca_fingerprint(self, node: str, *, timeout_s: float | None = None) -> str | None:
        """SHA-256 of the cluster's own CA, colons between: the same on all nodes, so the identity
        of a cluster. None where the node does not list one."""

        def read(data: object) -> str | None:
            for certificate in rows(data):
                if certificate.get("filename") == "pve-root-ca.pem":
                    return text(certificate, "fingerprint")
            return None

        return self._ask(read, "nodes/{node}/certificates/info", node=node, timeout_s=timeout_s)

    def permissions(
        self, path: str | None = None, *, timeout_s: float | None = None
    ) -> Mapping[str, frozenset[str]]:
        """Our own privileges by path."""

        def read(data: object) -> Mapping[str, frozenset[str]]:
            return {
                where: frozenset(name for name in row(names) if flag(row(names), name))
                for where, names in row(data).items()
            }

        return self._ask(
            read,
            "access/permissions",
            values={"path": None if path is None else validate.acl_path(path)},
            timeout_s=timeout_s,
        )

    def vmid_is_free(self, vmid: int, *, timeout_s: float | None = 1.0) -> bool:
        """Whether no guest of the cluster has the number now; it reserves nothing."""
        try:
            self._ask(
                str, "cluster/nextid", values={"vmid": validate.vmid(vmid)}, timeout_s=timeout_s
            )
        except Conflict:
            return False
        return True

    def guests(self, node: str, *, timeout_s: float | None = None) -> tuple[GuestUsage, ...]:
        """The VMs whose configuration lies on this node."""
        return self._ask(
            lambda data: tuple(GuestUsage.from_api(item, node=node) for item in rows(data)),
            "nodes/{node}/qemu",
            node=node,
            timeout_s=timeout_s,
        )

    def rrddata(
        self,
        node: str,
        vmid: int | None = None,
        timeframe: str = "hour",
        *,
        consolidation: str = "AVERAGE",
        timeout_s: float | None = None,
    ) -> tuple[UsagePoint, ...]:
        """Usage over time of a VM, or without `vmid` of the node itself."""
        template = "nodes/{node}/rrddata" if vmid is None else "nodes/{node}/qemu/{vmid}/rrddata"
        return self._ask(
            lambda data: tuple(UsagePoint.from_api(item) for item in rows(data)),
            template,
            node=node,
            vmid=vmid,
            values={
                "timeframe": validate.timeframe(timeframe),
                "cf": validate.consolidation(consolidation),
            },
            timeout_s=timeout_s,
        )
