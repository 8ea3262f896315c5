from __future__ import annotations

from tests.simulator.client import Api


def test_a_running_guest_on_shared_disks_moves_while_it_runs(api: Api):
    path = "/nodes/pve2/qemu/101"
    assert api.post(f"{path}/migrate", target="pve").reason.startswith("can't migrate running VM")
    assert api.done(api.post(f"{path}/migrate", target="pve", online=1)) == "OK"
    row = api.get("/nodes/pve/qemu/101/status/current").data
    assert row["status"] == "running"
    assert api.get(f"{path}/status/current").status == 500


def test_local_disks_stay_unless_they_may_come_along(api: Api):
    path = "/nodes/pve/qemu/100"
    upid = api.post(f"{path}/migrate", target="pve2", online=1).data
    assert api.task(upid)["exitstatus"] == "migration aborted"
    assert "without with-local-disks option" in "\n".join(api.log(upid))
    moved = api.post(f"{path}/migrate", target="pve2", online=1, **{"with-local-disks": 1})
    assert api.done(moved) == "OK"
    assert api.get("/nodes/pve2/qemu/100/config").data["scsi0"].startswith("local-lvm:vm-100-")
    here = api.get("/nodes/pve/storage/local-lvm/content").data
    there = api.get("/nodes/pve2/storage/local-lvm/content").data
    assert not [row for row in here if row["vmid"] == 100]
    assert [row for row in there if row["vmid"] == 100]


def test_an_iso_of_the_node_holds_a_guest_back(api: Api):
    path = "/nodes/pve3/qemu/102"
    iso = "local:iso/debian-12.11.0-amd64-netinst.iso,media=cdrom"
    assert api.put(f"{path}/config", ide3=iso).status == 200
    upid = api.post(f"{path}/migrate", target="pve").data
    assert api.task(upid)["exitstatus"] == "migration aborted"
    assert "local cdrom image" in "\n".join(api.log(upid))
    assert "lock" not in api.get(f"{path}/status/current").data


def test_the_preconditions_tell_where_a_guest_may_go(api: Api):
    found = api.get("/nodes/pve/qemu/100/migrate").data
    assert (found["running"], found["allowed_nodes"]) == (1, ["pve2", "pve3"])
    assert "local-lvm:vm-100-disk-0" in [disk["volid"] for disk in found["local_disks"]]


def test_wrong_targets_are_refused(api: Api):
    path = "/nodes/pve3/qemu/102/migrate"
    assert api.post(path, target="pve3").errors == {"target": "target is local node."}
    assert api.post(path, target="nope").reason == "no such cluster node 'nope'"
