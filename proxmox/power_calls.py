"""VMs: starting and stopping, snapshots, migration, the screen.

A task's OK says that the task ended, not that the VM is there: with HA it means "requested", and a
reboot's task ends while the VM is down. Look at `guest_status` afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from proxmox import validate
from proxmox.calls import Caller
from proxmox.errors import OutcomeUnknown
from proxmox.guest_calls import GUEST
from proxmox.results import VncTicket
from proxmox.results._read import name, row
from proxmox.upid import Upid


class PowerCalls(Caller):
    def start(self, node: str, vmid: int, *, timeout_s: float | None = None) -> Upid | None:
        """Of a running or paused VM: accepted, and fails in the task."""
        return self._status("start", node, vmid, {}, timeout_s)

    def stop(self, node: str, vmid: int, *, timeout_s: float | None = None) -> Upid | None:
        """Pulls the plug. Of a stopped VM: OK."""
        return self._status("stop", node, vmid, {}, timeout_s)

    def shutdown(
        self,
        node: str,
        vmid: int,
        *,
        shutdown_timeout_s: float | None = None,
        force_stop: bool = False,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """Asks the guest, which has `shutdown_timeout_s` (Proxmox's default: 180); then the task
        fails (Conflict `guest_ignored`) or, with `force_stop`, pulls the plug."""
        values = {
            "timeout": _whole(shutdown_timeout_s),
            "forceStop": True if force_stop else None,
        }
        return self._status("shutdown", node, vmid, values, timeout_s)

    def reboot(
        self,
        node: str,
        vmid: int,
        *,
        reboot_timeout_s: float | None = None,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """Asks the guest, which has `reboot_timeout_s` to go down. The task is OK once it is; a
        second one, by root@pam, starts it again."""
        return self._status("reboot", node, vmid, {"timeout": _whole(reboot_timeout_s)}, timeout_s)

    def reset(self, node: str, vmid: int, *, timeout_s: float | None = None) -> Upid | None:
        """Presses the button."""
        return self._status("reset", node, vmid, {}, timeout_s)

    def suspend(
        self, node: str, vmid: int, to_disk: bool = False, *, timeout_s: float | None = None
    ) -> Upid | None:
        """Stops the CPUs, or writes the RAM to disk and stops: the lock is `suspended` then."""
        return self._status("suspend", node, vmid, {"todisk": True if to_disk else None}, timeout_s)

    def resume(self, node: str, vmid: int, *, timeout_s: float | None = None) -> Upid | None:
        """Of a paused VM; one suspended to disk resumes by `start`."""
        return self._status("resume", node, vmid, {}, timeout_s)

    def _status(
        self,
        verb: str,
        node: str,
        vmid: int,
        values: Mapping[str, object],
        timeout_s: float | None,
    ) -> Upid | None:
        return self._act(
            "POST",
            f"{GUEST}/status/{verb}",
            node=node,
            vmid=vmid,
            values=values,
            timeout_s=timeout_s,
        )

    def migrate(
        self,
        node: str,
        vmid: int,
        target: str,
        *,
        online: bool = False,
        with_local_disks: bool = False,
        targetstorage: str | None = None,
        timeout_s: float | None = None,
    ) -> Upid | None:
        values = {
            "target": validate.node(target),
            "online": True if online else None,
            "with-local-disks": True if with_local_disks else None,
            "targetstorage": (
                None if targetstorage is None else validate.storage_map(targetstorage)
            ),
        }
        return self._act(
            "POST", f"{GUEST}/migrate", node=node, vmid=vmid, values=values, timeout_s=timeout_s
        )

    # -- snapshots ---------------------------------------------------------------------------

    def take_snapshot(
        self,
        node: str,
        vmid: int,
        snapname: str,
        *,
        description: str | None = None,
        with_ram: bool = False,
        timeout_s: float | None = None,
    ) -> Upid | None:
        values = {
            "snapname": validate.snapname(snapname),
            "description": description,
            "vmstate": True if with_ram else None,
        }
        return self._act(
            "POST", f"{GUEST}/snapshot", node=node, vmid=vmid, values=values, timeout_s=timeout_s
        )

    def rollback_snapshot(
        self,
        node: str,
        vmid: int,
        snapname: str,
        *,
        start: bool = False,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """Without RAM in the snapshot a running VM ends stopped, unless `start`."""
        return self._act(
            "POST",
            f"{GUEST}/snapshot/{{snapname}}/rollback",
            node=node,
            vmid=vmid,
            snapname=snapname,
            values={"start": True if start else None},
            timeout_s=timeout_s,
        )

    def delete_snapshot(
        self,
        node: str,
        vmid: int,
        snapname: str,
        *,
        force: bool = False,
        timeout_s: float | None = None,
    ) -> Upid | None:
        """`force` drops it from the configuration even where its disks refuse."""
        return self._act(
            "DELETE",
            f"{GUEST}/snapshot/{{snapname}}",
            node=node,
            vmid=vmid,
            snapname=snapname,
            values={"force": True if force else None},
            timeout_s=timeout_s,
        )

    # -- the screen --------------------------------------------------------------------------

    def vncproxy(self, node: str, vmid: int, *, timeout_s: float | None = None) -> VncTicket:
        """Opens the VM's screen at one endpoint for 10 s; see VncTicket."""
        answer = self._call(
            "POST",
            f"{GUEST}/vncproxy",
            {"node": node, "vmid": vmid},
            {"websocket": True, "generate-password": True},
            timeout_s,
        )
        try:
            fields = row(answer.data)
            ticket, port = name(fields, "ticket"), int(name(fields, "port"))
            # Before generate-password (7.0) the ticket itself was the password.
            password = str(fields.get("password") or ticket)
            user = name(fields, "user")
        except (KeyError, TypeError, ValueError):
            raise OutcomeUnknown("the answer to vncproxy has an unknown shape") from None
        query = urlencode({"port": port, "vncticket": ticket}, quote_via=quote, safe="")
        kept = ("Authorization", "Cookie")
        return VncTicket(
            ticket=ticket,
            port=port,
            password=password,
            user=user,
            endpoint=answer.endpoint,
            address=answer.peer or answer.endpoint.host,
            path=f"/api2/json/nodes/{node}/qemu/{vmid}/vncwebsocket?{query}",
            headers={key: value for key, value in answer.headers.items() if key in kept},
        )


def _whole(seconds: float | None) -> int | None:
    """Proxmox counts in whole seconds, 0 included."""
    if seconds is None:
        return None
    if seconds < 0:
        raise ValueError("a guest's time to shut down is not negative")
    return round(seconds)
