"""Starting, stopping, pausing and rebooting guests: the workers behind `status/…`."""

from __future__ import annotations

from . import drives, stats, vmconfig, volumes
from .errors import PveError
from .simulator import Simulator
from .tasks import Job
from .world import MIB, Guest, Volume

START_S = 1.2
STOP_S = 0.5
OS_SHUTDOWN_S = 2.0
AGENT_TIMEOUT_S = 3.0
SHUTDOWN_TIMEOUT_S = 60
REBOOT_GAP_S = 1.5
PAUSE_S = 0.2
RESET_S = 0.2
SAVE_RAM_S = 1.2
STATE_RESERVE_BYTES = 500 * MIB
MACHINE = "pc-i440fx-7.2+pve0"
AGENT_SILENT = (
    "QEMU Guest Agent is not running - VM {} qmp command 'guest-ping' failed - got timeout"
)
EXITED = "start failed: QEMU exited with code 1"


def mark_running(sim: Simulator, guest: Guest) -> None:
    now = sim.clock.now()
    guest.is_running, guest.is_paused = True, False
    guest.booted_at = guest.os_started_at = now
    guest.pid = sim.world.allocate_pid()
    guest.running_config = dict(guest.config)
    guest.is_agent_dead = False


def mark_stopped(guest: Guest) -> None:
    guest.is_running = guest.is_paused = False
    guest.pid = 0
    guest.running_config = {}
    vmconfig.apply_pending(guest)


async def start(sim: Simulator, job: Job, node: str, vmid: int) -> None:
    """The worker of qmstart, under the VM's lock."""
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        await start_locked(sim, job, guest)


async def start_locked(sim: Simulator, job: Job, guest: Guest) -> None:
    if guest.is_template:
        raise PveError("you can't start a vm if it's a template")
    is_suspended = guest.lock == "suspended"
    vmconfig.require_unlocked(guest, besides=("suspended",))
    if guest.is_running:
        raise PveError(f"VM {guest.vmid} already running")
    if is_suspended:
        await _resume_from_disk(sim, job, guest)
        return
    vmconfig.apply_pending(guest)
    _check_volumes(sim, guest)
    cpus = sim.world.nodes[guest.node].cpus
    if drives.cpu_count(guest.config) > cpus:
        raise PveError(f"MAX {cpus} vcpus allowed per VM on this node")
    if any(drive.is_cloudinit for drive in drives.drives_of(guest.config)):
        job.say("generating cloud-init ISO")
        remember_cloudinit(guest)
    if guest.config.get("bios") == "ovmf" and "efidisk0" not in guest.config:
        job.warn("no efidisk configured! Using temporary efivars disk.")
    await job.sleep(START_S)
    _check_host(sim, job, guest)
    mark_running(sim, guest)


def remember_cloudinit(guest: Guest) -> None:
    """What the cloud-init drive says from now on."""
    keys = [k for k in guest.config if k in vmconfig.CLOUDINIT_KEYS or k.startswith("ipconfig")]
    guest.cloudinit_seen = {key: guest.config[key] for key in keys} | {
        "name": guest.config.get("name")
    }


def _check_volumes(sim: Simulator, guest: Guest) -> None:
    for drive in drives.drives_of(guest.config):
        if not drive.is_volume:
            continue
        storage = sim.world.storage_on(drive.storage, guest.node)
        if guest.node in storage.offline_nodes:
            raise PveError(f"storage '{storage.name}' is not online")
        if sim.world.find_volume(drive.file, guest.node) is None:
            raise PveError(f"volume '{drive.file}' does not exist")


def _check_host(sim: Simulator, job: Job, guest: Guest) -> None:
    """What makes QEMU exit: an unknown bridge, more memory than the node has."""
    node = sim.world.nodes[guest.node]
    known = {bridge["iface"] for bridge in node.bridges}
    for key in sorted(k for k in guest.config if drives.NET.match(k)):
        bridge = drives.parse_net(guest.config[key]).options.get("bridge", "vmbr0")
        if bridge not in known:
            tap = f"tap{guest.vmid}i{key.removeprefix('net')}"
            job.say(f"bridge '{bridge}' does not exist")
            job.say(
                f"kvm: -netdev type=tap,id={key},ifname={tap},"
                "script=/usr/libexec/qemu-server/pve-bridge,"
                "downscript=/usr/libexec/qemu-server/pve-bridgedown: network script "
                "/usr/libexec/qemu-server/pve-bridge failed with status 512"
            )
            raise PveError(EXITED)
    if drives.memory_mib(guest.config) * MIB > node.memory:
        job.say("kvm: cannot set up guest memory 'pc.ram': Cannot allocate memory")
        raise PveError(EXITED)


async def stop(sim: Simulator, job: Job, node: str, vmid: int) -> None:
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest_in_cluster(node, vmid)
        if not guest.is_running:
            return
        vmconfig.require_unlocked(guest)
        await job.sleep(STOP_S)
        mark_stopped(guest)


async def shutdown(
    sim: Simulator, job: Job, node: str, vmid: int, *, timeout_s: float | None, is_forced: bool
) -> None:
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        if guest.is_running:
            vmconfig.require_unlocked(guest)
            await shutdown_locked(sim, job, guest, timeout_s=timeout_s, is_forced=is_forced)


async def shutdown_locked(
    sim: Simulator, job: Job, guest: Guest, *, timeout_s: float | None, is_forced: bool
) -> None:
    """Ask the guest to go; when the time runs out fail, or with `is_forced` end it."""
    if drives.is_agent_enabled(guest.running_config) and not stats.agent_is_up(sim, guest):
        await job.sleep(AGENT_TIMEOUT_S)
        job.say(AGENT_SILENT.format(guest.vmid))
    limit_s = SHUTDOWN_TIMEOUT_S if timeout_s is None else timeout_s
    if _obeys(sim, guest) and limit_s >= OS_SHUTDOWN_S:
        await job.sleep(OS_SHUTDOWN_S)
    else:
        await job.sleep(limit_s)
        if not is_forced:
            raise PveError("VM quit/powerdown failed - got timeout")
        job.say("VM still running - terminating now with SIGTERM")
        await job.sleep(STOP_S)
    mark_stopped(guest)


def _obeys(sim: Simulator, guest: Guest) -> bool:
    """An installed OS that has come up far enough to see the power button."""
    if guest.is_deaf or guest.is_paused or not stats.has_system(sim, guest):
        return False
    return (
        stats.agent_is_up(sim, guest) or sim.clock.elapsed(guest.os_started_at) > stats.BOOT_S / 2
    )


async def reboot(
    sim: Simulator, job: Job, node: str, vmid: int, *, timeout_s: float | None
) -> None:
    """OK as soon as the VM went down; another task, by root@pam, starts it again."""
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        vmconfig.require_unlocked(guest)
        if not guest.is_running:
            return
        await shutdown_locked(sim, job, guest, timeout_s=timeout_s, is_forced=False)
    sim.consoles.start_later(node, vmid)


async def reset(sim: Simulator, job: Job, node: str, vmid: int) -> None:
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        vmconfig.require_unlocked(guest)
        await job.sleep(RESET_S)
        guest.os_started_at = sim.clock.now()


async def pause(sim: Simulator, job: Job, node: str, vmid: int) -> None:
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        vmconfig.require_unlocked(guest, besides=("backup",))
        await job.sleep(PAUSE_S)
        guest.is_paused = True


async def suspend_to_disk(
    sim: Simulator, job: Job, node: str, vmid: int, *, storage_name: str | None
) -> None:
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        vmconfig.require_unlocked(guest)
        guest.config["lock"] = "suspending"

        async def undo() -> None:
            guest.config.pop("lock", None)

        job.on_failure(undo)
        date = job.timestamp()[:10]
        volume = await save_state(sim, job, guest, f"suspend-{date}", storage_name)
        await job.sleep(SAVE_RAM_S)
        job.say("State saved, quitting")
        mark_stopped(guest)
        guest.config |= {
            "lock": "suspended",
            "vmstate": volume.volid,
            "runningmachine": MACHINE,
            "runningcpu": "kvm64,enforce,+kvm_pv_eoi,+kvm_pv_unhalt,+lahf_lm,+sep",
        }


async def save_state(
    sim: Simulator, job: Job, guest: Guest, label: str, storage_name: str | None = None
) -> Volume:
    """The volume that takes the RAM: twice the memory plus a reserve."""
    disk = drives.boot_disk(guest.config)
    chosen = (
        storage_name or guest.config.get("vmstatestorage") or (disk.storage if disk else "local")
    )
    storage = sim.world.storage_on(str(chosen), guest.node)
    size = drives.memory_mib(guest.running_config or guest.config) * MIB * 2 + STATE_RESERVE_BYTES
    volume = await volumes.allocate(
        sim,
        job,
        storage=storage,
        node=guest.node,
        vmid=guest.vmid,
        size=size,
        label=f"vm-{guest.vmid}-state-{label}",
    )
    volume.used = size // 8
    return volume


async def _resume_from_disk(sim: Simulator, job: Job, guest: Guest) -> None:
    job.say("Resuming suspended VM")
    state = str(guest.config.get("vmstate", ""))
    job.say(f"activating and using '{state}' as vmstate")
    await job.sleep(START_S)
    mark_running(sim, guest)
    guest.os_started_at = 0.0
    job.say("Resumed VM, removing state")
    volumes.remove(sim, state, guest.node)
    for key in ("lock", "vmstate", "runningmachine", "runningcpu"):
        guest.config.pop(key, None)
        guest.running_config.pop(key, None)


async def resume(sim: Simulator, job: Job, node: str, vmid: int) -> None:
    async with sim.locks.config(vmid, say=job.say):
        guest = sim.world.guest(node, vmid)
        if guest.lock == "suspended":
            await _resume_from_disk(sim, job, guest)
            return
        vmconfig.require_unlocked(guest, besides=("backup",))
        await job.sleep(PAUSE_S)
        guest.is_paused = False
