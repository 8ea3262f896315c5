from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from pve_simulator import accidents
from pve_simulator.simulator import Simulator
from pve_simulator.testing import SimulatorThread
from pve_simulator.world import GIB, MIB, Storage
from tests.images import DISK, ImageServer, serving
from tests.simulator.client import Api


def add_storage(sim: SimulatorThread, name: str, kind: str) -> None:
    def add(live: Simulator) -> None:
        live.world.storages[name] = Storage(name, kind, ["images"], 100 * GIB, path="/mnt/x")

    sim.change(add)


def new_vm(api: Api, vmid: int, disk: str, **extra: object) -> str:
    created = api.post("/nodes/pve/qemu", vmid=vmid, name=f"vm{vmid}", scsi0=disk, **extra)
    assert api.done(created) == "OK"
    return f"/nodes/pve/qemu/{vmid}"


@pytest.mark.parametrize(
    ("kind", "disk", "can_snapshot"),
    [
        ("dir", "extra:1,format=raw", 0),
        ("dir", "extra:1,format=qcow2", 1),
        ("lvm", "extra:1", 0),
        ("lvmthin", "extra:1", 1),
        ("zfspool", "extra:1", 1),
        ("rbd", "extra:1", 1),
    ],
)
def test_snapshots_depend_on_the_storage(
    sim: SimulatorThread, api: Api, kind: str, disk: str, can_snapshot: int
):
    add_storage(sim, "extra", kind)
    path = new_vm(api, 300, disk)
    assert api.get(f"{path}/feature", feature="snapshot").data["hasFeature"] == can_snapshot
    status = api.done(api.post(f"{path}/snapshot", snapname="one"))
    assert status == ("OK" if can_snapshot else "snapshot feature is not available")


def test_zfs_rolls_back_to_its_newest_snapshot_only(sim: SimulatorThread, api: Api):
    add_storage(sim, "tank", "zfspool")
    path = new_vm(api, 300, "tank:1")
    for name in ("one", "two"):
        assert api.done(api.post(f"{path}/snapshot", snapname=name)) == "OK"
    assert "is not most recent snapshot" in api.done(api.post(f"{path}/snapshot/one/rollback"))
    assert api.done(api.post(f"{path}/snapshot/two/rollback")) == "OK"


def test_linked_clones_need_a_storage_that_can(sim: SimulatorThread, api: Api):
    add_storage(sim, "plain", "lvm")
    path = new_vm(api, 300, "plain:1")
    assert api.done(api.post(f"{path}/template")) == "OK"
    assert api.get(f"{path}/feature", feature="clone").data["hasFeature"] == 0
    answer = api.post(f"{path}/clone", newid=301)
    assert answer.reason.startswith("Linked clone feature is not supported for 'plain:base-300")
    assert api.done(api.post(f"{path}/clone", newid=301, full=1)) == "OK"


def test_a_rollback_brings_config_and_size_back(api: Api):
    path = "/nodes/pve3/qemu/102"
    before = api.get(f"{path}/config").data
    assert api.done(api.post(f"{path}/snapshot", snapname="clean", description="x")) == "OK"
    api.put(f"{path}/config", cores=7, tags="later")
    assert api.done(api.put(f"{path}/resize", disk="scsi0", size="+5G")) == "OK"
    assert api.done(api.post(f"{path}/snapshot/clean/rollback")) == "OK"
    after = api.get(f"{path}/config").data
    assert after["parent"] == "clean"
    for key in ("cores", "scsi0", "tags", "net0", "smbios1"):
        assert after[key] == before[key], key


def test_snapshots_form_a_tree(api: Api):
    path = "/nodes/pve3/qemu/102/snapshot"
    for name in ("one", "two"):
        api.done(api.post(path, snapname=name))
    api.done(api.post(f"{path}/one/rollback"))
    api.done(api.post(path, snapname="three"))
    parents = {row["name"]: row.get("parent") for row in api.get(path).data}
    assert parents == {"one": None, "two": "one", "three": "one", "current": "three"}
    api.done(api.delete(f"{path}/one"))
    parents = {row["name"]: row.get("parent") for row in api.get(path).data}
    assert parents == {"two": None, "three": None, "current": "three"}


def test_a_disk_only_grows(api: Api):
    path = "/nodes/pve3/qemu/102"
    assert api.done(api.put(f"{path}/resize", disk="scsi0", size="40G")) == "OK"
    assert api.done(api.put(f"{path}/resize", disk="scsi0", size="40G")) == "OK"
    answer = api.put(f"{path}/resize", disk="scsi0", size="30G")
    assert api.done(answer) == "shrinking disks is not supported"
    assert "size=40G" in api.get(f"{path}/config").data["scsi0"]


def test_a_full_storage_refuses_a_new_disk(sim: SimulatorThread, api: Api):
    sim.cause(accidents.storage_full, storage="local-lvm")
    created = api.post("/nodes/pve/qemu", vmid=300, scsi0="local-lvm:4")
    assert "Insufficient free space" in api.done(created)
    assert sim.guest(300) is None


def test_a_detached_disk_stays_unused_until_it_is_deleted(sim: SimulatorThread, api: Api):
    path = new_vm(api, 300, "local-lvm:1")
    assert api.put(f"{path}/config", delete="scsi0").status == 200
    config = api.get(f"{path}/config").data
    assert config["unused0"] == "local-lvm:vm-300-disk-0"
    assert api.put(f"{path}/config", delete="unused0").status == 200
    names = [row["volid"] for row in api.get("/nodes/pve/storage/local-lvm/content").data]
    assert "local-lvm:vm-300-disk-0" not in names


def test_destroying_unreferenced_disks_takes_strangers_along(sim: SimulatorThread, api: Api):
    path = new_vm(api, 300, "ceph:1")

    def leave_a_strangers_disk(live: Simulator) -> None:
        known = live.world.volumes[("ceph", "")]
        stranger = live.world.find_volume("ceph:vm-300-disk-0", "pve")
        assert stranger is not None
        known["ceph:vm-300-disk-9"] = stranger.__class__(
            "ceph:vm-300-disk-9", "images", "raw", GIB, 0, 0, 300
        )

    sim.change(leave_a_strangers_disk)
    api.done(api.delete(path, **{"destroy-unreferenced-disks": 1}))
    assert "ceph:vm-300-disk-9" not in sim.world.volumes[("ceph", "")]


@pytest.fixture
def images() -> Iterator[ImageServer]:
    with serving() as server:
        yield server


@pytest.fixture
def image_url(images: ImageServer) -> str:
    return f"{images.url}/debian.qcow2"


def download(api: Api, url: str, **extra: object) -> str:
    path = "/nodes/pve/storage/local/download-url"
    return api.done(api.post(path, content="import", filename="disk.qcow2", url=url, **extra))


def test_an_image_is_fetched_checked_and_becomes_a_disk(api: Api, image_url: str):
    checksum = hashlib.sha256(DISK).hexdigest()
    sums = {"checksum": checksum, "checksum-algorithm": "sha256"}
    assert download(api, image_url, **sums) == "OK"
    disk = "ceph:0,import-from=local:import/disk.qcow2"
    path = new_vm(api, 300, disk, ide2="ceph:cloudinit", agent=1)
    config = api.get(f"{path}/config").data
    assert config["scsi0"] == "ceph:vm-300-disk-0,size=3G"
    assert config["ide2"] == "ceph:vm-300-cloudinit,media=cdrom"
    assert api.done(api.post(f"{path}/template")) == "OK"
    assert api.get(f"{path}/config").data["scsi0"].startswith("ceph:base-300-disk-0")


def test_a_url_is_asked_for_as_it_came(api: Api, images: ImageServer):
    """A signature covers each letter of it, percent signs too."""
    query = "?X-Amz-Credential=AKIA%2F20260101%2Fs3&b=2&a=%7E1+2"
    assert download(api, f"{images.url}/a%2Fb/debian.qcow2{query}") == "OK"
    assert images.asked == [f"/a%2Fb/debian.qcow2{query}"]


def test_a_wrong_checksum_keeps_nothing(api: Api, image_url: str):
    sums = {"checksum": "0" * 64, "checksum-algorithm": "sha256"}
    assert download(api, image_url, **sums).startswith("checksum mismatch: got '")
    assert api.get("/nodes/pve/storage/local/content", content="import").data == []


def test_a_missing_file_and_a_dead_host_are_told_apart(api: Api, image_url: str):
    missing = image_url.replace("debian", "none")
    assert download(api, missing) == "download failed: exit code 8"
    status = download(api, "http://127.0.0.1:9/disk.qcow2")
    assert status.endswith("failed: Connection refused.")


def upload(api: Api, name: str, content: bytes, kind: str = "iso") -> str:
    boundary = "b0undary"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="content"\r\n\r\n{kind}\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="filename"; '
        f'filename="{name}"\r\nContent-Type: application/octet-stream\r\n\r\n'
    )
    body = head.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    headers = api.headers | {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    target = "/api2/json/nodes/pve/storage/local/upload"
    return api.done(api.send("POST", target, body, headers))


def test_an_uploaded_iso_can_be_read_back_and_attached(sim: SimulatorThread, api: Api):
    assert upload(api, "seed.iso", b"cidata" * 100_000) == "OK"
    volume = sim.world.find_volume("local:iso/seed.iso", "pve")
    assert volume is not None
    assert volume.payload == b"cidata" * 100_000
    assert (
        api.put("/nodes/pve/qemu/100/config", ide3="local:iso/seed.iso,media=cdrom").status == 200
    )
    assert api.get("/nodes/pve/qemu/100/config").data["ide3"].startswith("local:iso/seed.iso,")
    assert sim.world.find_volume("local:iso/seed.iso", "pve2") is None


def test_an_upload_of_megabytes_is_counted_in_full(sim: SimulatorThread, api: Api):
    assert upload(api, "big.iso", bytes(9 * MIB)) == "OK"
    rows = api.get("/nodes/pve/storage/local/content", content="iso").data
    assert {row["size"] for row in rows if row["volid"] == "local:iso/big.iso"} == {9 * MIB}
