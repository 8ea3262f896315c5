"""The resources of API.md: what lists and objects hold, and what an action answers."""

from __future__ import annotations

import datetime
from typing import Any

import orjson
import pytest
from django.utils import timezone

from clusters.models import ONLINE, Cluster
from izvor_project.api.renderers import dumps
from operations.refusals import Conflict
from pve_simulator import accidents
from tests.api.shapes import UTC_TIME, VM_FIELDS, fields_of, problem_of
from tests.conftest import run_until
from tests.vms.cast import a_new_vm
from vms import actions
from vms.bodies import vm_body
from vms.models import GivenUpVmid, VirtualMachine

pytestmark = pytest.mark.django_db

API = "/api/v1"
GIB = 1024**3

TEMPLATE_FIELDS = {
    "id",
    "name",
    "description",
    "os_type",
    "node",
    "nodes",
    "disk_size",
    "created_at",
}


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.content
    return [vm["id"] for vm in answer.json()["vms"]]


# --- one VM ---


def test_a_vm_has_exactly_the_contracts_fields(operator_calls, cluster):
    listed = operator_calls.get(f"{API}/vms").json()["vms"][0]
    assert set(listed) == VM_FIELDS
    assert operator_calls.get(f"{API}/vms/{listed['uuid']}").json() == listed


def test_a_vm_is_shown_as_the_cluster_has_it(operator_calls, cluster, sim):
    vm = operator_calls.get(f"{API}/vms/100").json()
    guest = sim.guest(100)
    assert vm["id"] == "100"
    assert vm["cluster"] == "demo"
    assert vm["node"] == guest.node
    assert vm["name"] == guest.config["name"]
    assert (vm["cores"], vm["memory"], vm["disk_size"]) == (1, 1024, 20)
    assert vm["tags"] == ["production"]
    assert vm["status"] == "running"
    assert vm["mac_address"] in guest.config["net0"]
    assert vm["network"] == "vmbr0"
    assert vm["cloud_init"] == {"ip_config": "ip=dhcp"}
    assert vm["project"] is vm["size"] is vm["task"] is vm["last_error"] is None
    assert vm["stale"] is False
    assert 0 <= vm["cpu_usage"] <= 100
    assert 0 < vm["memory_used"] <= 1024 * 1024**2
    assert vm["uptime"] > 0


def test_a_vm_is_shown_alike_wherever_it_is_shown(operator_calls, cluster):
    """Postgres writes the answer down; what is in it stays what it is."""
    texts = {"description": 'a "b" \\ \n\t é 𝄞 \u2028 </script>', "last_error": "it's {}"}
    metadata = {"quoted": '"}', "unicode": "𝄞", "empty": ""}
    cluster.vms.filter(vmid=100).update(**texts, metadata=metadata, disk_bytes=GIB // 2)
    shown = operator_calls.get(f"{API}/vms/100").json()
    answer = operator_calls.get(f"{API}/vms")
    listed = answer.json()["vms"]
    assert b'"id":"100","uuid":"' in answer.content
    assert {name: shown[name] for name in texts} == texts
    assert shown["metadata"] == metadata
    assert [vm for vm in listed if vm["id"] == "100"] == [shown]
    assert orjson.loads(dumps(vm_body(cluster.vms.get(vmid=100)))) == shown


def test_times_are_utc(operator_calls, cluster, work, operator):
    vm = operator_calls.get(f"{API}/vms/100").json()
    template = operator_calls.get(f"{API}/templates/9000").json()
    task = operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"}).json()["task"]
    health = operator_calls.get("/health").json()
    times = [
        *(vm[name] for name in ("created_at", "updated_at", "synced_at")),
        template["created_at"],
        task["created_at"],
        health["clusters"][0]["seen_at"],
    ]
    assert [time for time in times if not UTC_TIME.fullmatch(time)] == []


@pytest.mark.parametrize(
    ("disk_bytes", "shown"), [(20 * GIB, 20), (2252 * 1024**2, 2.2), (0, 0), (GIB // 2, 0.5)]
)
def test_a_disk_size_is_in_gib(disk_bytes, shown, operator_calls, cluster):
    cluster.vms.filter(vmid=100).update(disk_bytes=disk_bytes)
    assert operator_calls.get(f"{API}/vms/100").json()["disk_size"] == shown


def test_refresh_asks_proxmox_first(operator_calls, cluster, sim):
    vm = cluster.vms.get(vmid=103)
    try:
        sim.cause(accidents.set_option, vmid=103, key="cores", value=3)
        before = operator_calls.get(f"{API}/vms/103").json()
        after = operator_calls.get(f"{API}/vms/103?refresh=true").json()
    finally:
        sim.cause(accidents.set_option, vmid=103, key="cores", value=vm.cores)
    assert before["cores"] == vm.cores
    assert after["cores"] == 3
    assert after["synced_at"] > before["synced_at"]


def test_refresh_of_a_vm_that_has_moved_follows_it(operator_calls, cluster, sim):
    home = sim.guest(104).node
    other = next(node for node in ("pve", "pve2", "pve3") if node != home)
    try:
        sim.cause(accidents.ha_move, vmid=104, node=other)
        seen = run_until(
            lambda: operator_calls.get(f"{API}/vms/104?refresh=true").json(),
            lambda vm: vm["node"] == other,
        )
    finally:
        sim.cause(accidents.ha_move, vmid=104, node=home)
    assert seen["stale"] is False


def test_refresh_of_a_vm_that_is_gone_says_stale(operator_calls, cluster):
    cluster.vms.filter(vmid=107).update(vmid=7777)
    vm = operator_calls.get(f"{API}/vms/7777?refresh=true").json()
    assert vm["stale"] is True
    assert vm["status"] == "unknown"


def test_refresh_never_takes_a_foreign_vm_for_one_that_is_being_created(
    operator_calls, cluster, operator
):
    vm, _ = actions.create_vm(asked=a_new_vm(), by=operator)
    # Its provisional number is taken by somebody else's VM.
    cluster.vms.filter(vmid=107).delete()
    VirtualMachine.objects.filter(pk=vm.pk).update(vmid=107, node="pve2")
    shown = operator_calls.get(f"{API}/vms/{vm.uuid}?refresh=true").json()
    assert shown["name"] == "web"
    vm.refresh_from_db()
    assert vm.is_ours
    assert vm.smbios_uuid is None


# --- lists ---


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("node=pve", ["100", "103", "106"]),
        ("cluster=demo", ["100", "101", "102", "103", "104", "105", "106", "107"]),
        ("cluster=other", []),
        ("status=stopped", ["102", "106"]),
        ("tag=production", ["100", "104"]),
        ("tag=demo&tag=test", ["102", "106"]),
        ("tag=demo&tag=production", []),
        ("name=db-01", ["101"]),
        ("name=db", []),
        ("search=WEB", ["100"]),
        ("search=-01", ["100", "101", "102", "103", "104", "105", "106", "107"]),
        ("search=%25", []),
        ("template=ubuntu-22.04", ["101"]),
        ("project=default", ["100"]),
        ("node=pve&status=running", ["100", "103"]),
        ("node=", ["100", "101", "102", "103", "104", "105", "106", "107"]),
    ],
)
def test_the_list_is_filtered(query, expected, operator_calls, cluster, project):
    cluster.vms.filter(vmid=100).update(project=project)
    cluster.vms.filter(vmid=101).update(template_name="ubuntu-22.04")
    answer = operator_calls.get(f"{API}/vms?{query}")
    assert ids(answer) == expected
    assert answer.json()["count"] == len(expected)
    assert answer.json()["next"] is None


def test_a_status_that_does_not_exist_is_a_400(operator_calls, cluster):
    body = problem_of(operator_calls.get(f"{API}/vms?status=runing"), 400)
    assert fields_of(body) == ["status"]
    assert "running" in body["detail"]


def test_pages_follow_each_other_and_are_stable_under_inserts(operator_calls, cluster):
    seen, url, pages = [], f"{API}/vms?limit=3&tag=x&tag=y", 0
    cluster.vms.update(tags=["x", "y"])
    cluster.vms.filter(vmid=103).update(tags=["x"])
    while url:
        answer = operator_calls.get(url)
        seen += ids(answer)
        page = answer.json()
        assert len(page["vms"]) <= 3
        pages += 1
        if pages == 1:
            first = cluster.vms.order_by("pk").first()
            VirtualMachine.objects.filter(pk=first.pk).update(deleted_at=timezone.now())
        if pages == 2:
            late = VirtualMachine(cluster=cluster, vmid=5000, node="pve", tags=["x", "y"])
            late.save()
        url = page["next"]
        assert url is None or url.startswith("http://testserver/api/v1/vms?")
    # 103 has only one of both tags: the filter holds on every page.
    assert seen == ["100", "101", "102", "104", "105", "106", "107", "5000"]


def test_what_is_gone_meanwhile_is_not_counted_on_an_empty_page(operator_calls, cluster):
    following = operator_calls.get(f"{API}/vms?limit=6").json()["next"]
    last = cluster.vms.order_by("-pk").values("pk")[: cluster.vms.count() - 6]
    cluster.vms.filter(pk__in=last).update(deleted_at=timezone.now())
    assert operator_calls.get(following).json() == {"vms": [], "count": 6, "next": None}


def test_behind_a_proxy_that_speaks_tls_the_next_page_is_too(operator_calls, cluster, settings):
    settings.ALLOWED_HOSTS = ["izvor.example.com"]
    settings.CSRF_TRUSTED_ORIGINS = ["https://izvor.example.com"]
    page = operator_calls.get(f"{API}/vms?limit=1", Host="izvor.example.com").json()
    assert page["next"].startswith("https://izvor.example.com/api/v1/vms?limit=1&cursor=")


def test_pages_of_snapshots_go_from_the_first_taken_to_the_last(operator_calls, cluster):
    vm, now = cluster.vms.get(vmid=100), timezone.now().replace(microsecond=0)
    cluster.vms.filter(vmid=100).update(snapshots_at=now)
    for name, minute in (("c", 1), ("a", 3), ("b", 2), ("d", 2)):
        vm.snapshots.create(name=name, taken_at=now + datetime.timedelta(minutes=minute))
    first = operator_calls.get(f"{API}/vms/100/snapshots?limit=2").json()
    assert [one["name"] for one in first["snapshots"]] == ["c", "b"]
    vm.snapshots.filter(name="b").delete()
    last = operator_calls.get(first["next"]).json()
    assert [one["name"] for one in last["snapshots"]] == ["d", "a"]
    assert (first["count"], last["count"], last["next"]) == (4, 3, None)


@pytest.mark.parametrize(
    "limit", ["0", "1001", "-1", "x", "", "1.5", "1e2", "٣", "0000000019999", "1" + "0" * 5000]
)
def test_a_bad_limit_is_a_400(limit, operator_calls, cluster):
    for path in ("/vms", "/tasks", "/templates", "/sizes"):
        body = problem_of(operator_calls.get(f"{API}{path}?limit={limit}"), 400)
        assert fields_of(body) == ["limit"]


@pytest.mark.parametrize("cursor", ["x", "bnVsbA", "InRleHQi", "MS41", "e30", "W10", "dHJ1ZQ"])
def test_a_cursor_of_somebody_elses_is_a_400(cursor, operator_calls, cluster):
    body = problem_of(operator_calls.get(f"{API}/vms?cursor={cursor}"), 400)
    assert fields_of(body) == ["cursor"]


def test_the_list_costs_a_few_queries_however_long_it_is(
    operator_calls, cluster, django_assert_max_num_queries
):
    with django_assert_max_num_queries(8):
        operator_calls.get(f"{API}/vms")


# --- which VM is meant ---


@pytest.fixture
def second_cluster(cluster: Cluster) -> Cluster:
    other = Cluster.objects.create(name="other", endpoints=["https://127.0.0.1:1"], state=ONLINE)
    VirtualMachine.objects.create(cluster=other, vmid=100, node="n1", name="twin")
    return other


def test_a_vm_of_a_cluster_that_is_switched_off_is_in_nobodys_way(
    operator_calls, cluster, second_cluster
):
    """As the simulator's, once a real cluster is named."""
    Cluster.objects.filter(pk=second_cluster.pk).update(is_enabled=False)
    assert operator_calls.get(f"{API}/vms/100").json()["cluster"] == "demo"
    assert operator_calls.get(f"{API}/vms/100?cluster=other").json()["name"] == "twin"
    assert operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"}).status_code == 202
    Cluster.objects.filter(pk=cluster.pk).update(is_enabled=False)
    problem_of(operator_calls.get(f"{API}/vms/100"), 409, "vmid_ambiguous")


def test_a_vm_of_a_cluster_that_is_switched_off_can_be_forgotten(operator, cluster, second_cluster):
    vm = second_cluster.vms.get()
    with pytest.raises(Conflict, match="is not missing"):
        actions.forget_vm(vm=vm, by=operator)
    Cluster.objects.filter(pk=second_cluster.pk).update(is_enabled=False)
    actions.forget_vm(vm=vm, by=operator)
    vm.refresh_from_db()
    assert vm.deleted_at is not None


def test_a_vmid_in_two_clusters_is_ambiguous(operator_calls, cluster, second_cluster):
    body = problem_of(operator_calls.get(f"{API}/vms/100"), 409, "vmid_ambiguous")
    assert "demo" in body["detail"]
    assert "other" in body["detail"]
    problem_of(operator_calls.delete(f"{API}/vms/100"), 409, "vmid_ambiguous")
    answer = operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"})
    problem_of(answer, 409, "vmid_ambiguous")

    assert operator_calls.get(f"{API}/vms/100?cluster=other").json()["name"] == "twin"
    assert operator_calls.get(f"{API}/vms/100?cluster=demo").json()["name"] == "web-01"
    problem_of(operator_calls.get(f"{API}/vms/100?cluster=third"), 404, "vm_not_found")
    twin = second_cluster.vms.get()
    assert operator_calls.get(f"{API}/vms/{twin.uuid}").json()["cluster"] == "other"


def test_what_a_member_cannot_see_makes_nothing_ambiguous(
    member_calls, owned, cluster, second_cluster
):
    assert member_calls.get(f"{API}/vms/100").json()["cluster"] == "demo"


def test_a_number_that_was_given_up_names_the_new_one(callers, owned, cluster):
    vm = cluster.vms.get(vmid=100)
    until = timezone.now() + datetime.timedelta(hours=1)
    given_up = GivenUpVmid.objects.create(cluster=cluster, vmid=555, vm=vm, until=until)
    for who in ("member", "operator"):
        body = problem_of(callers[who].get(f"{API}/vms/555"), 409, "vmid_changed")
        assert "100" in body["detail"]
        assert str(vm.uuid) in body["detail"]
    problem_of(callers["member"].delete(f"{API}/vms/555"), 409, "vmid_changed")
    problem_of(callers["stranger"].get(f"{API}/vms/555"), 404, "vm_not_found")
    GivenUpVmid.objects.filter(pk=given_up.pk).update(until=timezone.now())
    problem_of(callers["member"].get(f"{API}/vms/555"), 404, "vm_not_found")


# --- sizes and templates ---


def test_the_sizes_of_the_contract_are_there(operator_calls, project):
    body = operator_calls.get(f"{API}/sizes").json()
    assert operator_calls.get(f"{API}/vms/sizes").json() == body
    shipped = {s["name"]: (s["cores"], s["memory"], s["disk_size"]) for s in body["sizes"]}
    assert shipped == {
        "nano": (1, 256, 5),
        "micro": (1, 512, 10),
        "small": (1, 1024, 20),
        "medium": (2, 2048, 40),
        "large": (4, 4096, 80),
        "xlarge": (8, 8192, 160),
        "xxlarge": (16, 16384, 320),
    }
    assert body["count"] == 7
    assert set(body["sizes"][0]) == {"name", "cores", "memory", "disk_size", "description"}
    assert operator_calls.get(f"{API}/sizes/nano").json() == body["sizes"][0]
    problem_of(operator_calls.get(f"{API}/sizes/tiny"), 404, "size_not_found")


def test_templates_hold_the_contracts_fields(operator_calls, cluster):
    body = operator_calls.get(f"{API}/templates").json()
    assert body["count"] == 3
    by_name = {t["name"]: t for t in body["templates"]}
    ubuntu = by_name["ubuntu-22.04"]
    assert set(ubuntu) >= TEMPLATE_FIELDS
    assert (ubuntu["id"], ubuntu["os_type"], ubuntu["node"]) == ("9000", "linux", "pve")
    # On shared storage every node can make a VM of it, on local storage only its own.
    assert ubuntu["nodes"] == ["pve", "pve2", "pve3"]
    assert by_name["rocky-9"]["nodes"] == ["pve2"]
    assert ubuntu["disk_size"] == 2.2
    assert by_name["debian-12"]["disk_size"] == 2
    assert operator_calls.get(f"{API}/templates/ubuntu-22.04").json() == ubuntu
    assert operator_calls.get(f"{API}/templates/{ubuntu['uuid']}").json() == ubuntu
    problem_of(operator_calls.get(f"{API}/templates/9999"), 404, "template_not_found")
