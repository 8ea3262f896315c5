"""What happened on the recorded node between the exchanges, and how to bring it about here."""

from __future__ import annotations

import time
from collections.abc import Callable

from pve_simulator import accidents, power, stats, volumes
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from pve_simulator.world import GIB, MIB, Guest, Volume

SWAPPED = (("479-race-create-same-vmid-0", "480-race-create-same-vmid-1"),)
"""Raced calls whose second one won."""

TOGETHER = (("484-race-clone-same-newid-0", "485-race-clone-same-newid-1"),)
"""Raced calls that were both accepted: they must be under way at the same time."""

WRONG_SECRET = ("012-version-bad-token-secret",)

PLAIN_HTTP = ("045-plain-http",)
"""Sent without TLS."""

Step = Callable[[SimulatorThread], None]


def _agent_of(vmid: int) -> Step:
    """Wait until the guest's agent is up."""

    def wait(sim: SimulatorThread) -> None:
        def is_up(live: Simulator) -> bool:
            return stats.agent_is_up(live, live.world.guests[vmid])

        sim.wait_for(is_up, timeout_s=20, what=f"the agent of {vmid}")

    return wait


def _running(vmid: int) -> Step:
    """Wait until the guest runs."""
    return lambda sim: sim.wait_for(
        lambda live: live.world.guests[vmid].is_running, what=f"{vmid} to run"
    )


def _option_of(vmid: int, key: str) -> Step:
    """Wait until the guest's config has an option."""
    return lambda sim: sim.wait_for(
        lambda live: vmid in live.world.guests and key in live.world.guests[vmid].config,
        what=f"{key} of {vmid}",
    )


def _quiet(sim: SimulatorThread) -> None:
    """Wait until no task runs."""
    sim.wait_for(lambda live: not list(live.tasks.running()), timeout_s=30, what="all tasks")


def _copying(kind: str) -> Step:
    """Wait until a task of this type moves data."""

    def is_copying(live: Simulator) -> bool:
        tasks = [record for record in live.tasks.running() if record.type == kind]
        return any("transferred" in line for record in tasks for line in record.log)

    return lambda sim: sim.wait_for(is_copying, what=f"{kind} to copy")


def _drop_backups(sim: SimulatorThread) -> None:
    def drop(live: Simulator) -> None:
        known = live.world.volumes[("local", "pve1")]
        for volid in [v.volid for v in known.values() if v.content == "backup"]:
            del known[volid]

    sim.change(drop)


def _data_of(volid: str, size: int) -> Step:
    """How much of a volume a copy must move: more of it gives this machine more time."""

    def change(live: Simulator) -> None:
        volume = live.world.find_volume(volid, "pve1")
        assert volume is not None
        volume.data = size

    return lambda sim: sim.change(change)


def _ran_for_an_hour(vmid: int) -> Step:
    def age(live: Simulator) -> None:
        guest = live.world.guests[vmid]
        guest.booted_at -= 3600
        guest.config["meta"] = "creation-qemu=7.2.22,ctime=1"

    return lambda sim: sim.change(age)


def _fresh_resources(sim: SimulatorThread) -> None:
    """The statistics daemon's next cycle."""
    sim.change(lambda live: live.cache.refresh())


def _lock(vmid: int, lock: str | None) -> Step:
    return lambda sim: sim.cause(accidents.set_lock, vmid=vmid, lock=lock)


def _start(vmid: int) -> Step:
    return lambda sim: sim.change(lambda live: power.mark_running(live, live.world.guests[vmid]))


def _stop(vmid: int) -> Step:
    return lambda sim: sim.cause(accidents.crash_guest, vmid=vmid)


def _pause(vmid: int) -> Step:
    def pause(live: Simulator) -> None:
        live.world.guests[vmid].is_paused = True

    return lambda sim: sim.change(pause)


def _drop_snapshots(vmid: int) -> Step:
    def drop(live: Simulator) -> None:
        guest = live.world.guests[vmid]
        for snapshot in guest.snapshots.values():
            volumes.remove(live, str(snapshot.config.get("vmstate")), guest.node)
        guest.snapshots, guest.parent = {}, None

    return lambda sim: sim.change(drop)


def _drop_guests(*, besides: tuple[int, ...] = ()) -> Step:
    def drop(live: Simulator) -> None:
        gone = [guest for vmid, guest in live.world.guests.items() if vmid not in besides]
        for guest in sorted(gone, key=lambda guest: guest.is_template):
            volumes.free_with_guest(live, guest)
            del live.world.guests[guest.vmid]

    return lambda sim: sim.change(drop)


def _drop(vmid: int) -> Step:
    def drop(live: Simulator) -> None:
        volumes.free_with_guest(live, live.world.guests.pop(vmid))

    return lambda sim: sim.change(drop)


def _guest(
    vmid: int, name: str, *, runs: bool = False, agent: bool = False, **extra: object
) -> Step:
    """A guest made from the small image, with its agent up if wanted."""

    def make(live: Simulator) -> None:
        now = int(time.time())
        kind = "base" if extra.get("template") else "vm"
        disk = Volume(
            f"local:{vmid}/{kind}-{vmid}-disk-0.qcow2",
            "images",
            "qcow2",
            64 * MIB,
            13914112,
            now,
            vmid,
            data=64 * MIB,
            system="linux",
        )
        volumes.add(live, live.world.storages["local"], "pve1", disk)
        guest = Guest(
            vmid,
            "pve1",
            {
                "agent": "enabled=1",
                "boot": "order=scsi0",
                "cores": 1,
                "memory": "256",
                "meta": f"creation-qemu=7.2.22,ctime={now}",
                "name": name,
                "net0": f"virtio={live.new_mac()},bridge=vmbr0",
                "ostype": "l26",
                "scsi0": f"{disk.volid},size=64M",
                "scsihw": "virtio-scsi-pci",
                "serial0": "socket",
                "smbios1": f"uuid={live.new_uuid()}",
                "vmgenid": live.new_uuid(),
                **extra,
            },
        )
        live.world.guests[vmid] = guest
        if runs:
            power.mark_running(live, guest)
        if agent:
            guest.os_started_at = 0.0

    return lambda sim: sim.change(make)


def _big_image(sim: SimulatorThread) -> None:
    def add(live: Simulator) -> None:
        image = Volume("local:import/big.raw", "import", "raw", GIB, GIB, 0, data=GIB)
        volumes.add(live, live.world.storages["local"], "pve1", image)

    sim.change(add)


def _drop_big_image(sim: SimulatorThread) -> None:
    sim.change(lambda live: volumes.remove(live, "local:import/big.raw", "pve1"))


BEFORE: dict[str, list[Step]] = {
    "162-cluster-resources-vm": [_fresh_resources],
    "201-suspend-todisk": [_start(100)],
    "228-snapshot-create-vmstate": [_start(100)],
    "268-resize-grow": [_quiet, _stop(100)],
    "300-config-put-memory-huge": [_stop(100)],
    "327-agent-ping-ok": [_agent_of(9000)],
    "345-status-right-after-reboot-task": [_running(9000)],
    "348-snapshot-os-with-agent": [_agent_of(9000)],
    "360-shutdown-os": [_drop_snapshots(9000)],
    "413-slow-clone": [_data_of("local:9000/base-9000-disk-0.qcow2", 100 * MIB)],
    "414-during-clone-target-status": [_option_of(110, "ide2")],
    "419-during-clone-cluster-resources": [_fresh_resources],
    "452-abort-clone": [_data_of("local:9000/base-9000-disk-0.qcow2", 64 * MIB)],
    "453-abort-clone-stop-task": [_copying("qmclone")],
    "500-set-lock-as-non-root": [_lock(101, "backup")],
    "521-protection-on": [_lock(101, None)],
    "537-vm-rrddata": [_ran_for_an_hour(102)],
    "571-status-after-qemu-killed": [_fresh_resources, _stop(140)],
    "575-delete": [_stop(102)],
    "585-delete-twice": [_quiet, _drop_guests(besides=(9000,))],
    "613-status-after-locked-ops": [_guest(200, "src", runs=True, agent=True)],
    "624-agent-ping-paused": [_pause(200)],
    "644-create-big": [_guest(203, "third"), _big_image],
    "678-create-while-disk-left-behind-content": [_drop(211)],
    "679-cluster-resources-vm-end": [_drop_guests()],
    "681-vzdump-running-2": [_guest(200, "src", runs=True, agent=True)],
    "744-storage-disable": [_quiet, _drop_guests(), _drop_backups],
    "753-source-clone": [
        _guest(400, "src"),
        _guest(9000, "izvor-mini", template=1, tags="template"),
    ],
    "767-reboot-watch": [_start(400), _agent_of(400)],
    "768-delete-then-same-vmid-delete": [_quiet, _running(400), _fresh_resources, _stop(400)],
    "770-cluster-tasks-count": [_quiet],
    "775-download-url-import": [_drop_big_image],
    "771-delete-c1": [_guest(101, "c1")],
    "848-pipe-agent-network": [_agent_of(120)],
}


def act_before(name: str, sim: SimulatorThread) -> None:
    for action in BEFORE.get(name, []):
        action(sim)
