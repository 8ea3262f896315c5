"""Making a VM from a template: clone, configure, grow the disk, see that it is as asked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from accounts.prepared import Prepared, Slot
from clusters.models import Node
from operations.plans import Act, Cancel, Done, Step, StepFailed, Verdict, Wait
from operations.refusals import Refusal
from proxmox import Conflict, NotFound, OutcomeUnknown, ProxmoxError, Upid
from proxmox.results import GuestConfig
from vms import observe
from vms.job import READ_S, VmJob, find_guest
from vms.marks import read_mark, with_mark
from vms.models import GIB
from vms.placement import Capacity, Need
from vms.sourcing import lanes_in, placed
from vms.steps.locks import refuse_stuck_lock, unlocked

# Whose it is can be told only when these are gone: until then it shows a placeholder.
CLONING = frozenset({"clone", "create"})


class Clone(Step[VmJob]):
    """The template's copy under our VMID, bearing our mark."""

    name: ClassVar[str] = "clone"
    # A full clone of a large disk on slow storage takes its time; Proxmox itself sets no limit.
    patience_s: ClassVar[float] = 6 * 3600
    settle_s: ClassVar[float] = 30
    # Proxmox kills an aborted clone after 5 s, and one cut in its clean-up leaves a lock for ever.
    cancel: ClassVar[Cancel] = Cancel.FINISH_THEN_UNDO

    def look(self, job: VmJob) -> Verdict:
        # Nothing of ours is there before the first attempt, and Proxmox takes no number twice: a
        # short question does, where to see that nobody has it would take the list of all VMs.
        is_first = job.operation.attempts == 0
        if is_first and job.client.vmid_is_free(job.vm.vmid, timeout_s=READ_S):
            return self.missing(job)
        found = job.find()
        if found is None:
            if is_first:
                # Neither free nor a VM's: containers have numbers of the same range.
                job.take_another_vmid()
            return self.missing(job)
        node, config = found
        # Nothing was asked for yet, so it is somebody else's; but a retry's may be ours.
        is_new = is_first and job.operation.retry_of_id is None
        if config.lock in CLONING and not is_new:
            return unlocked(job, node, job.vm.vmid, config.lock, of_tasks=CLONING)
        if read_mark(config.description) == job.mark:
            job.saw(node, config)
            return Done()
        job.take_another_vmid()
        return self.missing(job)

    def missing(self, job: VmJob) -> Act:
        """It is to be made, and can be. Raises StepFailed."""
        return find_source(job)

    def act(self, job: VmJob) -> Upid | None:
        asked = job.params
        return job.client.clone_guest(
            asked["template_node"],
            asked["template_vmid"],
            newid=job.vm.vmid,
            name=job.vm.name,
            description=with_mark(asked["description"], job.mark),
            full=not asked["linked"],
            target=None if asked.get("move") else elsewhere(job.vm.node, asked["template_node"]),
            storage=asked.get("clone_storage", asked["storage"]) or None,
            timeout_s=job.call_s(),
        )

    def prepare(self, job: VmJob) -> Wait | None:
        return leave_dead_node(job)

    def lanes(self, params: Mapping[str, Any]) -> Iterable[tuple[str, int]]:
        return lanes_in(params)

    def on_refused(self, job: VmJob, error: ProxmoxError) -> Verdict | None:
        if isinstance(error, OutcomeUnknown):
            refuse_stuck_lock(job, CLONING)
            return Act(f"VM {job.vm.vmid} does not exist")
        if isinstance(error, Conflict) and (error.reason, error.what) == ("exists", "guest"):
            # Somebody's VM has the number. It is the winner's: look whose, never clean it up.
            if job.find() is None:
                # A container's.
                job.take_another_vmid()
            return Act(f"VM {job.vm.vmid} does not exist")
        if isinstance(error, NotFound) and error.what == "guest":
            return find_source(job)
        return None

    def record(self, job: VmJob) -> None:
        """Who it is. What it will have stays as it was asked for, since quotas count the rows."""
        save_but(job, "cores", "memory_mib", "disk_bytes", "cloud_init", "tags", "network")


def find_source(job: VmJob) -> Act:
    """What is to be copied, and never whatever stands under its number by now.

    Where one node misses its configuration it is looked for before it is called gone: it may have
    moved, and a node whose cluster filesystem restarts misses all of them. Raises StepFailed, and
    Unreachable rather than guess.
    """
    asked = job.params
    what = "VM" if job.operation.kind == "clone_vm" else "template"
    name, vmid = asked["template_name"], asked["template_vmid"]
    found = find_guest(job, asked["template_node"], vmid)
    if found is None:
        raise StepFailed(
            "template_gone", f"The {what} {name} ({vmid}) is no longer on the cluster."
        )
    node, config = found
    known = asked.get("template_smbios", "")
    is_another = known != "" and config.smbios_uuid != known
    if is_another or (what == "template" and not config.is_template):
        raise StepFailed(
            "template_replaced",
            f"VMID {vmid} is no longer the {what} {name} (smbios uuid {config.smbios_uuid}); "
            "nothing was made of it.",
        )
    if node != asked["template_node"]:
        job.warn(f"The {what} {name} ({vmid}) has moved to {node}.")
        job.write(params=asked | {"template_node": node})
    return Act(f"VM {job.vm.vmid} does not exist")


def save_but(job: VmJob, *names: str) -> None:
    """What the configuration shows into the VM's row, but for what later steps will bring about."""
    values = observe.config_values(job.vm, job.config())
    observe.save(job.vm, {name: value for name, value in values.items() if name not in names})


NODES = Prepared(lambda: Node.objects.filter(cluster=Slot("cluster"), name=Slot("name")).order_by())


def leave_dead_node(job: VmJob) -> Wait | None:
    """Nothing was asked for yet: a VM whose chosen node is down goes to another, if it may."""
    node = job.vm.node
    if any(there.is_online for there in NODES(cluster=job.operation.cluster_id, name=node)):
        return None
    capacity = Capacity(job.operation.cluster)
    try:
        placement = capacity.choose(Need.from_json(job.params["need"]))
        values = placed(job.params, placement, capacity)
    except Refusal as refusal:
        return Wait(f"node {node} to come back ({refusal.detail})", check_s=5.0)
    job.move_to(placement.node, values)
    return None


class Configure(Step[VmJob]):
    """Cores, memory, cloud-init, tags and network as asked; read back and compared."""

    name: ClassVar[str] = "configure"
    settle_s: ClassVar[float] = 0

    def look(self, job: VmJob) -> Verdict:
        wrong = [
            f"{key} is {shown(job.config().raw.get(key))} instead of {shown(value)}"
            for key, value in self.wanted(job).items()
            if not matches(key, job.config(), value)
        ]
        if wrong:
            return Act("; ".join(wrong))
        if job.secrets.get("password") and not job.notes.get("password_set"):
            return Act("the password is not set")
        return Done()

    def act(self, job: VmJob) -> Upid | None:
        changes = {
            key: value
            for key, value in self.wanted(job).items()
            if not matches(key, job.config(), value)
        }
        password = job.secrets.get("password")
        if password:
            changes["cipassword"] = password
        job.client.update_config(job.vm.node, job.vm.vmid, changes=changes, timeout_s=job.call_s())
        if password:
            # It cannot be read back: after a lost answer the same password is set once more.
            job.notes["password_set"] = True
        return None

    def record(self, job: VmJob) -> None:
        save_but(job, "disk_bytes")

    def wanted(self, job: VmJob) -> dict[str, Any]:
        """Options as Proxmox names them. `sockets` is 1, so that `cores` is what was asked for."""
        asked, cloud_init = job.params, job.params["cloud_init"]
        wanted: dict[str, Any] = {
            "cores": asked["cores"],
            "sockets": 1 if asked["cores"] else None,
            "memory": asked["memory_mib"],
            "tags": ";".join(asked["tags"]),
            "net0": self.network(job, asked["network"]),
            "ciuser": cloud_init.get("user"),
            "sshkeys": "\n".join(cloud_init.get("ssh_keys", [])) or None,
            "ipconfig0": cloud_init.get("ip_config"),
            "nameserver": " ".join(cloud_init.get("dns", [])) or None,
            "searchdomain": cloud_init.get("searchdomain"),
            "ostype": asked.get("ostype"),
        }
        return {key: value for key, value in wanted.items() if value is not None}

    def network(self, job: VmJob, bridge: str) -> str | None:
        """net0 on the wanted bridge, with the MAC and the other settings it has."""
        if not bridge:
            return None
        present = str(job.config().raw.get("net0") or "virtio")
        others = [part for part in present.split(",") if not part.startswith("bridge=")]
        return ",".join([*others, f"bridge={bridge}"])


class GrowDisk(Step[VmJob]):
    """The boot disk at the wanted size; a disk never shrinks."""

    name: ClassVar[str] = "grow_disk"
    settle_s: ClassVar[float] = 10

    def is_needed(self, job: VmJob) -> bool:
        return bool(job.params["disk_gib"])

    def look(self, job: VmJob) -> Verdict:
        disk = job.config().boot_disk
        if disk is None:
            raise StepFailed("no_disk", f"VM {job.vm.vmid} has no disk that could be grown.")
        wanted = job.params["disk_gib"] * GIB
        if (disk.size_bytes or 0) >= wanted:
            return Done()
        return Act(f"{disk.key} has {(disk.size_bytes or 0) / GIB:.2f} GiB")

    def act(self, job: VmJob) -> Upid | None:
        disk = job.config().boot_disk
        assert disk is not None, "look() has seen it"
        return job.client.resize_disk(
            job.vm.node,
            job.vm.vmid,
            disk.key,
            f"{job.params['disk_gib']}G",
            timeout_s=job.call_s(),
        )


class Ready(Step[VmJob]):
    """What came out, as Proxmox shows it, is written down."""

    name: ClassVar[str] = "ready"

    def look(self, job: VmJob) -> Verdict:
        # A lock is somebody's work on a finished VM, such as a backup: no reason to wait.
        job.status()
        return Done()

    def act(self, job: VmJob) -> Upid | None:
        raise AssertionError("look() never asks for it")

    def record(self, job: VmJob) -> None:
        values = observe.all_values(job.vm, job.config(), job.status())
        # The agent comes up after the boot: let inventory ask it soon.
        observe.save(job.vm, values | {"details_at": None})


class Undo(Step[VmJob]):
    """What a failed creation made goes; nothing that is not provably ours is touched."""

    patience_s: ClassVar[float] = 1800
    cancel: ClassVar[Cancel] = Cancel.NOT_CANCELABLE

    def look(self, job: VmJob) -> Verdict:
        found = job.find()
        if found is None:
            return Done()
        node, config = found
        if config.lock not in CLONING and not job.is_it(config):
            return Done()
        if config.lock and config.lock == job.notes.get("stuck"):
            raise StepFailed("stuck_lock", f"VM {job.vm.vmid} is locked ({config.lock}).")
        if config.lock:
            return unlocked(job, node, job.vm.vmid, config.lock)
        job.saw(node, config)
        return self.look_at_ours(job)

    @abstractmethod
    def look_at_ours(self, job: VmJob) -> Verdict:
        """It is there, unlocked, and ours."""


class StopToDiscard(Undo):
    """A creation may fail, or be canceled, when its VM runs already."""

    name: ClassVar[str] = "stop_to_discard"
    settle_s: ClassVar[float] = 180

    def look_at_ours(self, job: VmJob) -> Verdict:
        return Done() if job.status().is_stopped else Act(f"VM {job.vm.vmid} still runs")

    def act(self, job: VmJob) -> Upid | None:
        return job.client.stop(job.vm.node, job.vm.vmid, timeout_s=job.call_s())


class Discard(Undo):
    name: ClassVar[str] = "discard"

    def look_at_ours(self, job: VmJob) -> Verdict:
        return Act(f"VM {job.vm.vmid} is still there")

    def act(self, job: VmJob) -> Upid | None:
        return job.client.delete_guest(job.vm.node, job.vm.vmid, purge=True, timeout_s=job.call_s())

    def record(self, job: VmJob) -> None:
        job.notes["undone"] = True


def elsewhere(wanted: str, node: str) -> str | None:
    return wanted if wanted != node else None


def matches(key: str, config: GuestConfig, value: Any) -> bool:
    """Does the configuration say what was asked? Proxmox normalises some of it."""
    match key:
        case "tags":
            return bool(config.tags == frozenset(tag for tag in value.split(";") if tag))
        case "memory" | "cores" | "sockets":
            said = {"memory": config.memory_mib, "cores": config.cores, "sockets": config.sockets}
            return bool(said[key] == value)
        case "sshkeys":
            return (config.sshkeys or "").strip() == str(value).strip()
        case "net0":
            return set(str(config.raw.get("net0", "")).split(",")) == set(value.split(","))
        case _:
            return str(config.raw.get(key, "")) == str(value)


def shown(value: object) -> str:
    return "not set" if value in (None, "") else repr(value)
