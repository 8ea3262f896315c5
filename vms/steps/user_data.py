"""A VM's own user-data: a NoCloud ISO uploaded, attached in place of the cloud-init drive, removed.

The file's name holds the VM's uuid and a digest of what is in it, so that a look at the storage
tells whether the right one is there, and nobody else's is ever touched.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, ClassVar

from django.conf import settings

from operations.plans import Act, Cancel, Done, Step, StepFailed, Verdict
from proxmox import ProxmoxError, Upid
from proxmox.results import GuestConfig
from vms import nocloud, volumes
from vms.job import READ_S, VmJob
from vms.models import UserData
from vms.steps.locks import unlocked
from vms.userdata import iso_storages, seal

# Where a CD-ROM goes if it cannot take its predecessor's place; q35 machines have ide0 and ide2.
SLOTS = ("ide2", "ide0", *(f"sata{number}" for number in range(5, -1, -1)))


class UserDataStep(Step[VmJob]):
    patience_s: ClassVar[float] = 1800
    settle_s: ClassVar[float] = 15

    def is_needed(self, job: VmJob) -> bool:
        return self.content(job) is not None

    def content(self, job: VmJob) -> dict[str, Any] | None:
        """What this operation was asked to apply; what the VM has already otherwise."""
        asked: dict[str, Any] | None = job.secrets.get("user_data")
        return asked

    def files(self, job: VmJob) -> dict[str, str]:
        content = self.content(job)
        assert content is not None, "is_needed() has seen it"
        config = job.config()
        mac = (config.nics[0].mac if config.nics else "") or ""
        return nocloud.files_for(nocloud.Guest(str(job.vm.uuid), job.vm.name, mac), content)

    def volume(self, job: VmJob) -> str:
        """The ISO's volume ID; the storage is chosen once and kept in the operation's notes."""
        if "iso_storage" not in job.notes:
            found = iso_storages(job.operation.cluster_id, job.vm.node)
            if not found:
                where = settings.IZVOR_USERDATA_STORAGE or "a storage for ISO images"
                raise StepFailed("no_iso_storage", f"Node {job.vm.node} has no {where} available.")
            job.notes["iso_storage"] = found[0].name
        name = volumes.user_data_file(job.vm.uuid, nocloud.digest_of(self.files(job)))
        return f"{job.notes['iso_storage']}:iso/{name}"


class UploadUserData(UserDataStep):
    name: ClassVar[str] = "upload_user_data"

    def look(self, job: VmJob) -> Verdict:
        volume = self.volume(job)
        if volume in uploaded(job, job.notes["iso_storage"]):
            return Done()
        return Act(f"{volume} is not there")

    def act(self, job: VmJob) -> Upid | None:
        storage, _, path = self.volume(job).partition(":")
        return job.client.upload(
            job.vm.node,
            storage,
            filename=path.removeprefix("iso/"),
            file=io.BytesIO(nocloud.build_iso(self.files(job))),
            timeout_s=job.call_s(),
        )


class AttachUserData(UserDataStep):
    """One volume labelled `cidata`: with Proxmox's own drive beside it either could win."""

    name: ClassVar[str] = "attach_user_data"

    def look(self, job: VmJob) -> Verdict:
        config = job.config()
        if config.lock:
            return unlocked(job, job.vm.node, job.vm.vmid, config.lock)
        volume = self.volume(job)
        if volume in attached(job, config) and not other_seeds(config, volume):
            return Done()
        return Act(f"{volume} is not in its CD-ROM drive")

    def act(self, job: VmJob) -> Upid | None:
        volume = self.volume(job)
        put_in_drive(job, volume, without=other_seeds(job.config(), volume))
        return None

    def record(self, job: VmJob) -> None:
        content = self.content(job)
        assert content is not None, "is_needed() has seen it"
        UserData.objects.update_or_create(
            vm=job.vm, defaults={"sealed": seal(content), "volume": self.volume(job)}
        )


class AttachAgain(UserDataStep):
    """A rollback brings back the drive of its day, maybe with an ISO that is there no more."""

    name: ClassVar[str] = "attach_again"

    def is_needed(self, job: VmJob) -> bool:
        return UserData.objects.filter(vm=job.vm).exists()

    def look(self, job: VmJob) -> Verdict:
        wanted = job.vm.user_data.volume
        if wanted in attached(job, job.config()) and not other_seeds(job.config(), wanted):
            return Done()
        return Act(f"{wanted} is not in its CD-ROM drive")

    def act(self, job: VmJob) -> Upid | None:
        wanted = job.vm.user_data.volume
        put_in_drive(job, wanted, without=other_seeds(job.config(), wanted))
        return None


class DetachUserData(Step[VmJob]):
    """A template has no user-data of its own: Proxmox's cloud-init drive takes the ISO's place."""

    name: ClassVar[str] = "detach_user_data"
    settle_s: ClassVar[float] = 10
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def is_needed(self, job: VmJob) -> bool:
        return UserData.objects.filter(vm=job.vm).exists()

    def look(self, job: VmJob) -> Verdict:
        mine = drives_of_ours(job)
        if not mine:
            return Done()
        # Written down before it is asked for: whoever undoes it knows.
        job.notes["detached"] = True
        return Act(f"the ISO is still in {mine[0]}")

    def act(self, job: VmJob) -> Upid | None:
        disk = job.config().boot_disk
        slot, *others = drives_of_ours(job)
        job.client.update_config(
            job.vm.node,
            job.vm.vmid,
            changes={slot: f"{disk.storage}:cloudinit"} if disk and disk.storage else {},
            delete=others if disk and disk.storage else [slot, *others],
            timeout_s=job.call_s(),
        )
        return None


class AttachBack(AttachAgain):
    """A VM that did not become a template keeps its user-data."""

    name: ClassVar[str] = "attach_back"

    def is_needed(self, job: VmJob) -> bool:
        return bool(job.notes.get("detached"))

    def look(self, job: VmJob) -> Verdict:
        return Done() if job.config().is_template else super().look(job)

    def record(self, job: VmJob) -> None:
        # A retry takes it off again.
        job.notes["undone"] = not job.config().is_template


class DropUserData(Step[VmJob]):
    """With the VM its ISOs go, older ones that snapshots may have referred to included.

    One that cannot be removed is no reason to call the VM's deletion failed: reconciling lists it.
    """

    name: ClassVar[str] = "drop_user_data"
    settle_s: ClassVar[float] = 30
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def is_needed(self, job: VmJob) -> bool:
        return bool(self.storages(job))

    def storages(self, job: VmJob) -> set[str]:
        kept = UserData.objects.filter(vm=job.vm).values_list("volume", flat=True)
        names = {volume.partition(":")[0] for volume in kept} | {job.notes.get("iso_storage", "")}
        return names - {""}

    def left(self, job: VmJob) -> list[str]:
        return [
            volume
            for storage in sorted(self.storages(job))
            for volume in uploaded(job, storage)
            if is_ours(job, volume)
        ]

    def look(self, job: VmJob) -> Verdict:
        if job.notes.get("iso_stays"):
            return Done()
        left = self.left(job)
        return Act(f"{', '.join(left)} is still there") if left else Done()

    def act(self, job: VmJob) -> Upid | None:
        upid = None
        for volume in self.left(job):
            upid = job.client.delete_volume(job.vm.node, volume, timeout_s=job.call_s())
        return upid

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        job.notes["iso_stays"] = str(error)
        return Done()

    def record(self, job: VmJob) -> None:
        if job.notes.get("iso_stays"):
            job.warn(f"The ISO with its user-data was not removed: {job.notes['iso_stays']}")
        UserData.objects.filter(vm=job.vm).delete()


class DiscardUserData(DropUserData):
    """What a failed creation uploaded; the same, under a name of its own among the undoing."""

    name: ClassVar[str] = "discard_user_data"

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        return None


def put_in_drive(job: VmJob, volume: str, *, without: Iterable[str] = ()) -> None:
    """The ISO into its predecessor's drive, or a free one; the drives `without` are removed."""
    mine = drives_of_ours(job)
    slot = mine[0] if mine else free_slot(job.config())
    job.client.update_config(
        job.vm.node,
        job.vm.vmid,
        changes={slot: f"{volume},media=cdrom"},
        delete=[key for key in without if key != slot],
        timeout_s=job.call_s(),
    )


def drives_of_ours(job: VmJob) -> list[str]:
    return [disk.key for disk in job.config().disks if is_ours(job, disk.volume)]


def uploaded(job: VmJob, storage: str) -> set[str]:
    """ISO images on that storage, as the VM's node sees it."""
    found = job.client.storage_content(job.vm.node, storage, content="iso", timeout_s=READ_S)
    return {volume.volid for volume in found}


def is_ours(job: VmJob, volume: str) -> bool:
    """Is this one of the VM's own ISOs? By its uuid, which no other VM has."""
    return volumes.vm_of_user_data(volume) == job.vm.uuid


def attached(job: VmJob, config: GuestConfig) -> set[str]:
    return {disk.volume for disk in config.disks if disk.is_cdrom}


def other_seeds(config: GuestConfig, volume: str) -> list[str]:
    """Drives that cloud-init could take instead: Proxmox's own, the source's of a clone."""
    return [
        disk.key
        for disk in config.disks
        if disk.is_cloudinit or (disk.volume != volume and volumes.vm_of_user_data(disk.volume))
    ]


def free_slot(config: GuestConfig) -> str:
    taken = {disk.key for disk in config.disks}
    return next(slot for slot in SLOTS if slot not in taken)
