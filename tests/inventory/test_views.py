"""Nodes, storages, networks and clusters as the API shows them."""

from __future__ import annotations

import pytest
from django.utils import timezone

from accounts.actors import MEMBER
from clusters.models import Cluster
from inventory import cycle
from pve_simulator import accidents
from tests.conftest import client_with
from tests.vms.cast import a_vm

pytestmark = pytest.mark.django_db(transaction=True)


def test_nodes_with_their_use_and_their_vms(api, cluster, sim):
    listed = api.get("/api/v1/nodes").json()
    assert [node["name"] for node in listed["nodes"]] == ["pve", "pve2", "pve3"]
    assert listed["count"] == 3
    node = api.get("/api/v1/nodes/pve").json()
    assert node["status"] == "online"
    here = [guest for guest in sim.guests().values() if guest.node == "pve"]
    machines = [guest for guest in here if not guest.is_template]
    assert node["vm_count"] == len(machines)
    assert node["running_vms"] == sum(guest.is_running for guest in machines)
    assert 0 < node["memory_used"] < node["memory"]
    assert 0 <= node["cpu_usage"] <= 100


def test_each_shared_storage_once(api, cluster):
    listed = api.get("/api/v1/storage").json()["storage"]
    names = [(storage["name"], storage["node"]) for storage in listed]
    assert names.count(("ceph", None)) == 1
    assert ("local", "pve") in names
    assert ("local", "pve2") in names
    ceph = next(storage for storage in listed if storage["name"] == "ceph")
    assert (ceph["type"], ceph["shared"], ceph["enabled"]) == ("rbd", True, True)
    assert ceph["available"] == ceph["total"] - ceph["used"]


def test_pages_of_storage_are_stable_under_inserts(api, cluster):
    whole = [(one["name"], one["node"]) for one in api.get("/api/v1/storage").json()["storage"]]
    seen, url = [], "/api/v1/storage?cluster=demo&limit=2"
    while url:
        page = api.get(url).json()
        seen += [(one["name"], one["node"]) for one in page["storage"]]
        if len(seen) == 2:
            cluster.storages.filter(name=seen[0][0]).delete()
            cluster.storages.create(name="aaa", node="pve", synced_at=timezone.now())
            cluster.storages.create(name="zzz", node="pve", synced_at=timezone.now())
        url = page["next"]
    assert seen == [*whole, ("zzz", "pve")]


def test_a_nodes_storage_and_networks(api, cluster):
    storage = api.get("/api/v1/nodes/pve2/storage").json()["storage"]
    assert {entry["name"] for entry in storage} == {"local", "local-lvm", "ceph"}
    networks = api.get("/api/v1/nodes/pve2/networks").json()["networks"]
    assert {"vmbr0", "vmbr1"} <= {network["name"] for network in networks}


def test_cluster_status_and_sums(api, cluster, sim):
    status = api.get("/api/v1/cluster/status").json()
    assert (status["status"], status["quorate"], status["version"]) == ("healthy", True, "8.4.21")
    assert (status["total_nodes"], status["online_nodes"], status["offline_nodes"]) == (3, 3, 0)
    sums = api.get("/api/v1/cluster/resources").json()
    assert sums["total_vms"] == sums["running_vms"] + sums["stopped_vms"] + sum(
        guest.is_paused for guest in sim.guests().values()
    )
    assert sums["total_memory"] == sum(node["memory"] for node in sums["nodes"])


def test_a_member_sees_no_sums_of_what_others_have(cluster, project):
    sums = client_with(project, MEMBER).get("/api/v1/cluster/resources").json()
    nodes = sums.pop("nodes")
    assert {node["name"] for node in nodes} == {"pve", "pve2", "pve3"}
    assert {name for name, value in sums.items() if value is not None} == {"synced_at", "stale"}


def test_a_node_that_is_down_degrades_the_cluster(api, cluster, sim):
    sim.cause(accidents.node_down, node="pve3")
    cycle.look_at(cluster)
    status = api.get("/api/v1/cluster/status").json()
    assert (status["status"], status["offline_nodes"]) == ("degraded", 1)
    assert status["quorate"] is True
    assert api.get("/api/v1/nodes/pve3").json()["status"] != "online"


def test_a_lost_quorum_is_said(api, cluster, sim):
    sim.cause(accidents.node_down, node="pve3")
    sim.cause(accidents.quorum, has_quorum=False)
    cycle.look_at(cluster)
    assert api.get("/api/v1/cluster/status").json()["quorate"] is False
    sim.cause(accidents.quorum, has_quorum=True)
    sim.cause(accidents.node_up, node="pve3")
    cycle.look_at(cluster)
    assert api.get("/api/v1/cluster/status").json()["status"] == "healthy"


def test_a_member_sees_names_and_states_only(api, cluster, project):
    member = client_with(project, MEMBER)
    node = member.get("/api/v1/nodes/pve").json()
    assert (node["name"], node["status"], node["memory"], node["vm_count"]) == (
        "pve",
        "online",
        None,
        None,
    )
    assert member.get("/api/v1/storage").json()["storage"][0]["used"] is None
    assert member.get("/api/v1/nodes/pve/metrics").status_code == 403


def test_with_several_clusters_one_has_to_be_named(api, cluster):
    Cluster.objects.create(name="other", endpoints=["https://127.0.0.1:1"])
    answer = api.get("/api/v1/cluster/status")
    assert (answer.status_code, answer.json()["code"]) == (409, "cluster_ambiguous")
    assert api.get("/api/v1/cluster/status?cluster=demo").json()["name"] == "demo"
    assert api.get("/api/v1/cluster/status?cluster=none").status_code == 404
    assert api.get("/api/v1/clusters").json()["count"] == 2


def test_an_unknown_node_is_not_found(api, cluster):
    answer = api.get("/api/v1/nodes/nowhere")
    assert (answer.status_code, answer.json()["code"]) == (404, "node_not_found")


@pytest.mark.parametrize("path", ["vms/{vmid}", "nodes/pve"])
def test_usage_over_time(api, cluster, sim, operator, path):
    vm = a_vm(sim, operator)
    address = f"/api/v1/{path.format(vmid=vm.vmid)}/metrics"
    series = api.get(f"{address}?timeframe=day").json()
    assert series["timeframe"] == "day"
    assert {"time", "cpu_usage", "memory_used", "net_in"} <= set(series["metrics"][-1])
    answer = api.get(f"{address}?timeframe=decade")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "timeframe")


def test_iso_images_are_listed_where_they_lie(api, cluster):
    listed = api.get("/api/v1/isos").json()
    assert listed["count"] == len(listed["isos"]) > 0
    iso = listed["isos"][0]
    assert iso["id"] == f"{iso['storage']}:iso/{iso['name']}"
    assert iso["size"] > 0
    here = api.get(f"/api/v1/isos?node={iso['node']}&storage={iso['storage']}").json()["isos"]
    assert iso in here
    assert api.get("/api/v1/isos?node=nowhere").json()["count"] == 0


def test_a_storage_that_does_not_answer_is_said_and_the_others_are_listed(api, cluster, sim):
    everywhere = api.get("/api/v1/isos").json()["count"]
    sim.add_fault("status", method="GET", path="/nodes/pve2/storage/local/content", status=500)
    listed = api.get("/api/v1/isos").json()
    assert 0 < listed["count"] <= everywhere
    assert any("local on pve2" in warning for warning in listed["warnings"])


def test_cloud_images_are_a_list_of_their_own(api, cluster):
    assert set(api.get("/api/v1/images").json()) == {"images", "count", "next", "warnings"}
