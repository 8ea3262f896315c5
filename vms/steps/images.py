"""Making a VM from an image: download it, make the VM, take the image away again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from operations.plans import Act, Cancel, Done, Step, StepFailed, Verdict, Wait
from proxmox import NotFound, ProxmoxError, Upid
from vms.job import READ_S, VmJob
from vms.marks import with_mark
from vms.models import GIB
from vms.sourcing import lanes_in
from vms.steps.creation import Clone


class Download(Step[VmJob]):
    """The image on the node's storage, its checksum checked by Proxmox.

    The file bears the uuid of the VM that is made of it, so that it is ours beyond doubt, and found
    again by whoever goes on. It has its name only when it is there as a whole.
    """

    name: ClassVar[str] = "download"
    patience_s: ClassVar[float] = 6 * 3600
    settle_s: ClassVar[float] = 10
    # wget's half of a file bears another name, and Proxmox removes it.
    cancel: ClassVar[Cancel] = Cancel.ABORT

    def is_needed(self, job: VmJob) -> bool:
        return bool(job.params["download"])

    def look(self, job: VmJob) -> Verdict:
        volid = job.params["download"]["volid"]
        if image_is_there(job):
            return Done()
        if is_downloading(job):
            return Wait(f"the download of {volid} to end")
        return Act(f"{volid} is not there")

    def act(self, job: VmJob) -> Upid | None:
        file = job.params["download"]
        return job.client.download_url(
            file["node"],
            file["storage"],
            url=job.secrets["url"],
            filename=file_name(job),
            content="import",
            checksum=file["checksum"] or None,
            checksum_algorithm=file["algorithm"] or None,
            timeout_s=job.call_s(),
        )

    def lanes(self, params: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        return lanes_in(params["download"] or {})


class Create(Clone):
    """A VM under our VMID, bearing our mark: with an empty disk and an ISO, or a cloud image's."""

    name: ClassVar[str] = "create"

    def missing(self, job: VmJob) -> Act:
        return Act(f"VM {job.vm.vmid} does not exist")

    def act(self, job: VmJob) -> Upid | None:
        return job.client.create_guest(
            job.vm.node,
            job.vm.vmid,
            name=job.vm.name,
            description=with_mark(job.params["description"], job.mark),
            **hardware(job.params),
            timeout_s=job.call_s(),
        )

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        if isinstance(error, NotFound) and error.what == "volume":
            raise StepFailed("image_gone", f"The image is no longer there: {error}")
        return None if isinstance(error, NotFound) else super().on_refused(job, error)

    def record(self, job: VmJob) -> None:
        super().record(job)
        asked_gib, disk = job.params["disk_gib"], job.config().boot_disk
        has_gib = ((disk.size_bytes if disk else 0) or 0) / GIB
        if asked_gib and has_gib > asked_gib:
            job.warn(
                f"The image's disk has {has_gib:g} GiB, more than the {asked_gib} that were asked "
                "for, and a disk cannot shrink."
            )


class RemoveImage(Step[VmJob]):
    """The image that we fetched goes: its disk is a copy. That it stays is no reason to fail."""

    name: ClassVar[str] = "remove_image"
    cancel: ClassVar[Cancel] = Cancel.FINISH_THEN_UNDO

    def is_needed(self, job: VmJob) -> bool:
        return bool(job.params["download"])

    def look(self, job: VmJob) -> Verdict:
        return Done() if job.notes.get("image_stays") else image_is_gone(job)

    def act(self, job: VmJob) -> Upid | None:
        file = job.params["download"]
        return job.client.delete_volume(file["node"], file["volid"], timeout_s=job.call_s())

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        job.notes["image_stays"] = str(error)
        return Done()

    def record(self, job: VmJob) -> None:
        if job.notes.get("image_stays"):
            volid = job.params["download"]["volid"]
            job.warn(f"{volid} could not be removed: {job.notes['image_stays']}")


class DiscardImage(RemoveImage):
    """Undoing; here it does matter that it stays."""

    name: ClassVar[str] = "discard_image"
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def look(self, job: VmJob) -> Verdict:
        if is_downloading(job):
            return Wait(f"the download of {job.params['download']['volid']} to end")
        return image_is_gone(job)

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        return None

    def record(self, job: VmJob) -> None:
        """It is gone: nothing to tell."""


def file_name(job: VmJob) -> str:
    return str(job.params["download"]["volid"]).rpartition("/")[2]


def image_is_there(job: VmJob) -> bool:
    file = job.params["download"]
    images = job.client.storage_content(
        file["node"], file["storage"], content="import", timeout_s=READ_S
    )
    return any(image.volid == file["volid"] for image in images)


def image_is_gone(job: VmJob) -> Verdict:
    return Act(f"{job.params['download']['volid']} is there") if image_is_there(job) else Done()


def is_downloading(job: VmJob) -> bool:
    """Maybe by a call of ours whose answer was lost."""
    tasks = job.client.tasks(
        job.params["download"]["node"],
        source="active",
        typefilter="download",
        timeout_s=READ_S,
    )
    return any(task.is_running and task.upid.id == file_name(job) for task in tasks)


def hardware(asked: dict[str, Any]) -> dict[str, object]:
    """The VM as Proxmox's options; cloud-init and the rest follow when it is there."""
    wanted = asked["hardware"]
    nic = "virtio"
    if wanted["image"]:
        drives = {
            "scsi0": f"{wanted['storage']}:0,import-from={wanted['image']}",
            "ide2": f"{wanted['storage']}:cloudinit",
            "boot": "order=scsi0",
            # Cloud images speak there; some do not even boot without it.
            "serial0": "socket",
            "vga": "serial0",
        }
    else:
        disk = "scsi0"
        if wanted["ostype"].startswith("win"):
            # What Windows' installer has drivers for.
            disk, nic = "sata0", "e1000"
        drives = {
            disk: f"{wanted['storage']}:{wanted['disk_gib']}",
            "ide2": f"{wanted['iso']},media=cdrom",
            # The empty disk does not boot, so the ISO does; once installed, the disk does.
            "boot": f"order={disk};ide2;net0",
        }
    return {
        **drives,
        "net0": f"{nic},bridge={wanted['bridge']}",
        "ostype": wanted["ostype"],
        "scsihw": "virtio-scsi-single",
        "agent": "enabled=1",
        "cores": asked["cores"],
        "sockets": 1,
        "memory": asked["memory_mib"],
        "tags": ";".join(asked["tags"]) or None,
    }
