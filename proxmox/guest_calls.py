"""VMs: looking at them, making, changing and deleting them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from urllib.parse import quote

from proxmox import validate
from proxmox.calls import Caller
from proxmox.results import (
    AgentInterface,
    Feature,
    GuestConfig,
    GuestStatus,
    PendingOption,
    Snapshot,
)
from proxmox.results._read import row, rows
from proxmox.upid import Upid

GUEST = "nodes/{node}/qemu/{vmid}"


class GuestCalls(Caller):
    # -- looking -----------------------------------------------------------------------------

    def guest_status(self, node: str, vmid: int, *, timeout_s: float | None = None) -> GuestStatus:
        """Raises NotFound where the VM does not exist on that node."""
        return self._ask(
            GuestStatus.from_api,
            f"{GUEST}/status/current",
            node=node,
            vmid=vmid,
            timeout_s=timeout_s,
        )

    def guest_config(
        self,
        node: str,
        vmid: int,
        current: bool = False,
        *,
        snapshot: str = "",
        timeout_s: float | None = None,
    ) -> GuestConfig:
        """The configuration after the next start, with `current` the one in effect, or that which a
        snapshot holds."""
        return self._ask(
            GuestConfig.from_api,
            f"{GUEST}/config",
            node=node,
            vmid=vmid,
            values={"current": True if current else None, "snapshot": snapshot or None},
            timeout_s=timeout_s,
        )

    def guest_pending(
        self, node: str, vmid: int, *, timeout_s: float | None = None
    ) -> tuple[PendingOption, ...]:
        """Every option, with what waits for the next start beside what is in effect."""
        return self._ask(
            lambda data: tuple(PendingOption.from_api(item) for item in rows(data)),
            f"{GUEST}/pending",
            node=node,
            vmid=vmid,
            timeout_s=timeout_s,
        )

    def guest_feature(
        self,
        node: str,
        vmid: int,
        feature: str,
        snapname: str | None = None,
        *,
        timeout_s: float | None = None,
    ) -> Feature:
        """Whether the VM's storages can `snapshot`, `clone` (linked) or `copy` (full) it."""
        values = {
            "feature": validate.feature(feature),
            "snapname": None if snapname is None else validate.snapname(snapname),
        }
        return self._ask(
            Feature.from_api,
            f"{GUEST}/feature",
            node=node,
            vmid=vmid,
            values=values,
            timeout_s=timeout_s,
        )

    def snapshots(
        self, node: str, vmid: int, *, timeout_s: float | None = None
    ) -> tuple[Snapshot, ...]:
        """With the pseudo-snapshot `current`, whose parent is where the VM stands."""
        return self._ask(
            lambda data: tuple(Snapshot.from_api(item) for item in rows(data)),
            f"{GUEST}/snapshot",
            node=node,
            vmid=vmid,
            timeout_s=timeout_s,
        )

    def agent_interfaces(
        self, node: str, vmid: int, *, timeout_s: float | None = None
    ) -> tuple[AgentInterface, ...]:
        """Raises Conflict (`agent_not_running`), after 3 s, where no agent answers."""
        return self._ask(
            lambda data: tuple(
                AgentInterface.from_api(item) for item in rows(row(data).get("result"))
            ),
            f"{GUEST}/agent/network-get-interfaces",
            node=node,
            vmid=vmid,
            timeout_s=timeout_s,
        )

    # -- making and deleting -----------------------------------------------------------------

    def create_guest(
        self, node: str, vmid: int, *, timeout_s: float | None = None, **options: object
    ) -> Upid | None:
        """`options` as in a VM's configuration. Raises Conflict (`exists`) for a used VMID."""
        return self._act(
            "POST",
            "nodes/{node}/qemu",
            node=node,
            values={**_config_values(options), "vmid": validate.vmid(vmid)},
            timeout_s=timeout_s,
        )

    def clone_guest(
        self,
        node: str,
        vmid: int,
        *,
        newid: int,
        name: str | None = None,
        description: str | None = None,
        full: bool = True,
        target: str | None = None,
        storage: str | None = None,
        format: str | None = None,
        snapname: str | None = None,
        pool: str | None = None,
        bwlimit: int | None = None,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """`bwlimit` is in KiB/s. The task's id is the *source's* VMID.

        Two clones to one `newid` may both be accepted; the loser's task then says that it exists,
        and what exists is the winner's.
        """
        values = {
            "newid": validate.vmid(newid),
            "name": name,
            "description": description,
            "full": full,
            "target": None if target is None else validate.node(target),
            "storage": None if storage is None else validate.storage(storage),
            "format": None if format is None else validate.image_format(format),
            "snapname": None if snapname is None else validate.snapname(snapname),
            "pool": None if pool is None else validate.pool(pool),
            "bwlimit": bwlimit,
        }
        return self._act(
            "POST", f"{GUEST}/clone", node=node, vmid=vmid, values=values, timeout_s=timeout_s
        )

    def delete_guest(
        self, node: str, vmid: int, *, purge: bool = True, timeout_s: float | None = None
    ) -> Upid | None:
        """With its disks. `purge` also takes it out of backup jobs, HA and replication.

        Disks that merely carry its number are left alone: on a storage that clusters share they
        are somebody else's.
        """
        return self._act(
            "DELETE",
            GUEST,
            node=node,
            vmid=vmid,
            values={"purge": purge, "destroy-unreferenced-disks": False},
            timeout_s=timeout_s,
        )

    def convert_to_template(
        self, node: str, vmid: int, *, timeout_s: float | None = None
    ) -> Upid | None:
        """There is no way back."""
        return self._act("POST", f"{GUEST}/template", node=node, vmid=vmid, timeout_s=timeout_s)

    # -- configuration -----------------------------------------------------------------------

    def update_config(
        self,
        node: str,
        vmid: int,
        *,
        changes: Mapping[str, object],
        delete: Iterable[str] = (),
        digest: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        """Changes the configuration at once (what a running VM cannot take waits for its start).

        `sshkeys` is plain text, one key a line. With `digest`, raises Conflict (`digest`) where
        somebody else has changed the configuration since.
        """
        self._act(
            "PUT",
            f"{GUEST}/config",
            node=node,
            vmid=vmid,
            values=_change_values(changes, delete, digest),
            timeout_s=timeout_s,
        )

    def configure_async(
        self,
        node: str,
        vmid: int,
        *,
        changes: Mapping[str, object],
        delete: Iterable[str] = (),
        digest: str | None = None,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """The same as a task: for what allocates or imports disks."""
        return self._act(
            "POST",
            f"{GUEST}/config",
            node=node,
            vmid=vmid,
            values=_change_values(changes, delete, digest),
            timeout_s=timeout_s,
        )

    def resize_disk(
        self,
        node: str,
        vmid: int,
        disk: str,
        size: str,
        *,
        digest: str | None = None,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """To `40G`, or by `+5G`; only ever larger. None on Proxmox VE 7.4, which is done then."""
        values = {"disk": validate.disk(disk), "size": validate.size(size), "digest": digest}
        return self._act(
            "PUT", f"{GUEST}/resize", node=node, vmid=vmid, values=values, timeout_s=timeout_s
        )

    def move_disk(
        self,
        node: str,
        vmid: int,
        disk: str,
        storage: str,
        *,
        delete: bool = True,
        format: str | None = None,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """To another storage; without `delete` the old one stays as `unusedN`."""
        values = {
            "disk": validate.disk(disk),
            "storage": validate.storage(storage),
            "delete": delete,
            "format": None if format is None else validate.image_format(format),
        }
        return self._act(
            "POST", f"{GUEST}/move_disk", node=node, vmid=vmid, values=values, timeout_s=timeout_s
        )


def _config_values(options: Mapping[str, object]) -> dict[str, object]:
    """Options for the wire: `sshkeys` percent-encoded once here and, like all values, once more
    with the form; a space is `%20`, never `+`."""
    values = dict(options)
    keys = values.get("sshkeys")
    if isinstance(keys, str):
        values["sshkeys"] = quote(keys, safe="")
    return values


def _change_values(
    changes: Mapping[str, object], delete: Iterable[str], digest: str | None
) -> dict[str, object]:
    """Raises ValueError where an option is both set and deleted."""
    gone = tuple(delete)
    twice = set(changes) & {*gone, "delete", "digest"}
    if twice:
        raise ValueError(f"named twice in one change: {', '.join(sorted(twice))}")
    return {
        **_config_values(changes),
        "delete": validate.option_list(gone),
        "digest": digest,
    }
