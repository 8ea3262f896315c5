"""The resources of API.md: what lists and objects hold, and what an action answers."""

from __future__ import annotations

import datetime
import re
import threading
from typing import Any

import pytest
import requests
from django.db import connection, connections
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiToken, Project, Quota
from clusters.models import ONLINE, Cluster
from events.models import Event
from operations.models import Claim, Operation
from pve_simulator import accidents
from tests.api.shapes import Caller, fields_of, problem_of
from tests.conftest import run_until
from tests.vms.cast import a_new_vm, a_vm
from vms import actions
from vms.models import GivenUpVmid, Size, VirtualMachine
from vms.quota import usage_of

pytestmark = pytest.mark.django_db

API = "/api/v1"
GIB = 1024**3
NEW = {"name": "web", "template": "ubuntu-22.04", "cores": 1, "memory": 512, "linked": True}

# API.md, "Virtual machine".
VM_FIELDS = {
    "id",
    "uuid",
    "cluster",
    "node",
    "project",
    "name",
    "description",
    "tags",
    "metadata",
    "status",
    "template",
    "os_type",
    "os_template",
    "size",
    "cores",
    "memory",
    "disk_size",
    "ip_address",
    "ipv6_address",
    "mac_address",
    "network",
    "cloud_init",
    "cpu_usage",
    "memory_used",
    "disk_read",
    "disk_write",
    "net_in",
    "net_out",
    "uptime",
    "protected",
    "task",
    "last_error",
    "created_at",
    "updated_at",
    "synced_at",
    "stale",
}
TASK_FIELDS = {
    "id",
    "upid",
    "node",
    "type",
    "status",
    "exit_status",
    "progress",
    "steps",
    "waiting_for",
    "warnings",
    "error",
    "start_time",
    "end_time",
    "user",
    "vmid",
}
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
UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


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


@pytest.mark.parametrize("limit", ["0", "1001", "-1", "x", "", "1.5", "1e2", "٣"])
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


# --- tasks ---


def test_a_task_is_shown_by_id_and_by_upid(operator_calls, cluster, operator, sim, work):
    vm = a_vm(sim, operator, running=False)
    asked = operator_calls.post(f"{API}/vms/{vm.uuid}/actions", {"action": "start"}).json()
    queued = operator_calls.get(f"{API}/tasks/{asked['task_id']}").json()
    assert set(queued) >= TASK_FIELDS
    assert (queued["status"], queued["upid"], queued["exit_status"]) == ("queued", None, None)
    assert queued["steps"][0]["status"] == "running" or queued["steps"][0]["status"] == "waiting"

    work(asked["task_id"])
    task = operator_calls.get(f"{API}/tasks/{asked['task_id']}").json()
    assert (task["status"], task["progress"], task["exit_status"]) == ("succeeded", 100, "OK")
    assert (task["type"], task["vmid"], task["error"]) == ("start_vm", str(vm.vmid), None)
    assert task["upid"].startswith(f"UPID:{task['node']}:")
    assert [step["status"] for step in task["steps"]] == ["done"]
    assert task["start_time"] <= task["end_time"]
    assert operator_calls.get(f"{API}/tasks/{task['upid']}").json() == task
    assert operator_calls.get(f"{API}/tasks/{task['upid']}?node={task['node']}").json() == task
    for handle in (task["id"], task["upid"]):
        log = operator_calls.get(f"{API}/tasks/{handle}/log").json()["log"]
        assert log[-1] == {"upid": task["upid"], "text": "TASK OK"}
        problem_of(operator_calls.post(f"{API}/tasks/{handle}/cancel"), 409, "task_ended")


def test_tasks_are_listed_newest_first_and_filtered(operator_calls, cluster, operator):
    for vmid in (100, 101):
        vm = cluster.vms.get(vmid=vmid)
        actions.stop_vm(vm=vm, force=True, timeout_s=60, by=operator)
    VirtualMachine.objects.filter(vmid=106).update(name="")
    nameless = cluster.vms.get(vmid=106)
    actions.start_vm(vm=nameless, by=operator)

    def listed(query: str) -> list[str]:
        return [t["vmid"] for t in operator_calls.get(f"{API}/tasks?{query}").json()["tasks"]]

    assert listed("") == ["106", "101", "100"]
    assert listed("vm=100") == ["100"]
    assert listed("vm=106") == ["106"]
    assert listed(f"vm={cluster.vms.get(vmid=101).uuid}") == ["101"]
    assert listed("kind=start_vm") == ["106"]
    assert listed("status=queued&limit=2") == ["106", "101"]
    assert listed("status=failed") == []
    assert fields_of(problem_of(operator_calls.get(f"{API}/tasks?status=x"), 400)) == ["status"]
    for wrong in ("x", "10", "-1"):
        body = problem_of(operator_calls.get(f"{API}/tasks?vm={wrong}"), 400)
        assert fields_of(body) == ["vm"]


def test_a_foreign_task_is_shown_and_not_canceled(operator_calls, cluster, sim):
    upid = started_in_proxmox(sim)
    task = operator_calls.get(f"{API}/tasks/{upid}").json()
    assert set(task) >= TASK_FIELDS
    assert (task["status"], task["exit_status"], task["user"]) == ("stopped", "OK", "root@pam")
    assert (task["type"], task["vmid"], task["node"]) == ("qmsnapshot", "100", "pve")
    assert UTC_TIME.fullmatch(task["start_time"])
    problem_of(operator_calls.post(f"{API}/tasks/{upid}/cancel"), 409, "not_cancelable")
    problem_of(operator_calls.get(f"{API}/tasks/{upid}?node=pve2"), 400)
    unknown = re.sub(r"UPID:pve:\w+:", "UPID:pve:0BADF00D:", upid)
    problem_of(operator_calls.get(f"{API}/tasks/{unknown}"), 404, "task_not_found")
    elsewhere = upid.replace("UPID:pve:", "UPID:pve9:")
    problem_of(operator_calls.get(f"{API}/tasks/{elsewhere}"), 404, "task_not_found")


def started_in_proxmox(sim: Any) -> str:
    """The UPID of a task that somebody started past us, ended."""
    answer = requests.post(
        f"{sim.url}/api2/json/nodes/pve/qemu/100/snapshot",
        data={"snapname": f"s{len(sim.tasks())}"},
        headers={"Authorization": f"PVEAPIToken={sim.token_id}={sim.token_secret}"},
        verify=str(sim.ca_file),
        timeout=10,
    )
    answer.raise_for_status()
    upid: str = answer.json()["data"]
    sim.wait_for(lambda s: s.world.tasks[upid].exitstatus is not None, what="the task's end")
    return upid


def test_a_queued_creation_is_canceled_without_a_trace(operator_calls, cluster, work, sim):
    guests = len(sim.guests())
    body = operator_calls.post(f"{API}/vms", NEW).json()
    answer = operator_calls.post(f"{API}/tasks/{body['task_id']}/cancel")
    assert answer.status_code == 202
    assert work(body["task_id"]).state == "canceled"
    problem_of(operator_calls.get(f"{API}/vms/{body['vmid']}"), 404, "vm_not_found")
    assert len(sim.guests()) == guests


# --- actions ---


@pytest.mark.parametrize(
    ("vmid", "action", "why"),
    [
        (100, "start", "running"),
        (102, "stop", "stopped"),
        (102, "shutdown", "stopped"),
        (102, "reboot", "stopped"),
        (105, "reboot", "paused"),
    ],
)
def test_an_action_that_the_state_forbids_is_refused_with_the_reason(
    vmid, action, why, operator_calls, cluster, sim
):
    sim.forget_calls()
    answer = operator_calls.post(f"{API}/vms/{vmid}/actions", {"action": action})
    body = problem_of(answer, 409, "wrong_state")
    assert why in body["detail"]
    assert not Operation.objects.exists()
    assert [call for call in sim.calls if call.method != "GET"] == []


def test_an_action_on_a_busy_vm_names_the_task(operator_calls, cluster):
    first = operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"}).json()
    assert set(first) == {"action", "vmid", "task_id", "task"}
    answer = operator_calls.post(f"{API}/vms/100/actions", {"action": "reboot"})
    assert first["task_id"] in problem_of(answer, 409, "claimed")["detail"]
    vm = operator_calls.get(f"{API}/vms/100").json()
    assert (vm["status"], vm["task"]) == ("stopping", first["task_id"])


def test_a_lock_is_believed_only_as_it_is_now(operator_calls, cluster, sim):
    cluster.vms.filter(vmid=100).update(lock="backup")
    answer = operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"})
    assert answer.status_code == 202, "the lock was gone in Proxmox"

    cluster.vms.filter(vmid=101).update(lock="backup")
    sim.cause(accidents.set_lock, vmid=101, lock="backup")
    try:
        answer = operator_calls.post(f"{API}/vms/101/actions", {"action": "stop"})
        assert "backup" in problem_of(answer, 409, "locked")["detail"]
    finally:
        sim.cause(accidents.set_lock, vmid=101, lock=None)


def test_a_switched_off_cluster_is_left_alone(operator_calls, cluster, sim):
    Cluster.objects.filter(pk=cluster.pk).update(is_enabled=False)
    sim.forget_calls()
    for answer in (
        operator_calls.post(f"{API}/vms/100/actions", {"action": "stop"}),
        operator_calls.delete(f"{API}/vms/100"),
    ):
        problem_of(answer, 503, "cluster_disabled")
    assert operator_calls.get(f"{API}/vms/100").json()["stale"] is True
    assert operator_calls.get(f"{API}/templates").json()["count"] == 0
    assert sim.calls == []


def test_a_vm_protected_by_us_is_not_deleted(operator_calls, cluster, sim):
    cluster.vms.filter(vmid=100).update(is_protected=True)
    problem_of(operator_calls.delete(f"{API}/vms/100"), 409, "protected")
    assert not Operation.objects.exists()
    assert sim.guest(100).is_running


def test_a_vm_protected_in_proxmox_is_not_even_stopped(operator_calls, cluster, sim):
    sim.cause(accidents.set_option, vmid=100, key="protection", value=1)
    sim.forget_calls()
    try:
        problem_of(operator_calls.delete(f"{API}/vms/100"), 409, "protected")
    finally:
        sim.cause(accidents.set_option, vmid=100, key="protection", value=0)
    assert not Operation.objects.exists()
    assert sim.guest(100).is_running
    assert [call for call in sim.calls if call.method != "GET"] == []


def test_a_vm_that_is_another_by_now_is_not_deleted(operator_calls, cluster, sim):
    cluster.vms.filter(vmid=100).update(smbios_uuid="00000000-0000-4000-8000-000000000000")
    problem_of(operator_calls.delete(f"{API}/vms/100"), 409, "vm_replaced")
    assert not Operation.objects.exists()


def test_a_delete_answers_as_the_contract_says(operator_calls, cluster, operator, sim, work):
    vm = a_vm(sim, operator)
    answer = operator_calls.delete(f"{API}/vms/{vm.vmid}")
    body = answer.json()
    assert answer.status_code == 202
    assert set(body) == {"message", "vmid", "task_id", "task"}
    assert answer["Location"] == f"/api/v1/tasks/{body['task_id']}"
    assert "X-Izvor-Await" in answer, "the wait layer takes it out"
    assert work(body["task_id"]).state == "succeeded"
    problem_of(operator_calls.get(f"{API}/vms/{vm.uuid}"), 404, "vm_not_found")
    assert sim.guest(vm.vmid) is None


# --- creating ---


def test_the_defaults_without_a_size_are_the_contracts(operator_calls, cluster):
    body = operator_calls.post(f"{API}/vms", {"name": "web", "template": 9000}).json()
    vm = body["vm"]
    assert set(body) == {"vm", "vmid", "task_id", "task"}
    assert (vm["cores"], vm["memory"], vm["disk_size"]) == (1, 1024, 20)
    assert (vm["status"], vm["template"], vm["task"]) == (
        "creating",
        "ubuntu-22.04",
        body["task_id"],
    )
    assert set(vm) == VM_FIELDS


def test_each_number_overrides_the_size(operator_calls, cluster):
    asked = {"name": "web", "template": "9000", "size": "medium", "cores": 4}
    vm = operator_calls.post(f"{API}/vms", asked).json()["vm"]
    assert (vm["size"], vm["cores"], vm["memory"], vm["disk_size"]) == ("medium", 4, 2048, 40)


def test_a_templates_own_disk_is_never_made_smaller(operator_calls, cluster):
    asked = {"name": "web", "template": "rocky-9", "size": "nano"}
    assert operator_calls.post(f"{API}/vms", asked).json()["vm"]["disk_size"] == 10


def test_an_operators_size_counts_at_once(operator_calls, cluster):
    Size.objects.filter(name="nano").update(cores=3)
    asked = {"name": "web", "template": "9000", "size": "nano"}
    assert operator_calls.post(f"{API}/vms", asked).json()["vm"]["cores"] == 3


# --- quotas ---


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        ({"vms": 1}, {}),
        ({"cores": 4}, {"cores": 4}),
        ({"memory_mib": 1500}, {"memory": 512}),
        ({"disk_gib": 30}, {}),
    ],
    ids=str,
)
def test_beyond_the_quota_nothing_is_written(limit, asked, member_calls, owned, project, sim):
    # The project has VM 100 already: 1 core, 1024 MiB, 20 GiB.
    Quota.objects.create(project=project, **limit)
    before = (VirtualMachine.objects.count(), Event.objects.count())
    sim.forget_calls()
    body = problem_of(member_calls.post(f"{API}/vms", {**NEW, **asked}), 403, "quota_exceeded")
    assert "default" in body["detail"]
    assert (VirtualMachine.objects.count(), Event.objects.count()) == before
    assert not Operation.objects.exists()
    assert not Claim.objects.exists()
    assert [call for call in sim.calls if call.method != "GET"] == []


def test_within_the_quota_it_is_made(member_calls, owned, project):
    Quota.objects.create(project=project, vms=2, cores=2, memory_mib=1536, disk_gib=40)
    assert member_calls.post(f"{API}/vms", NEW).status_code == 202
    problem_of(member_calls.post(f"{API}/vms", NEW), 403, "quota_exceeded")


@pytest.mark.services
@pytest.mark.django_db(transaction=True)
def test_twenty_at_once_never_exceed_the_quota(cluster, project):
    Quota.objects.create(project=project, vms=5, cores=50)
    _, token = ApiToken.objects.issue(name="many", project=project)
    answers: list[Any] = []
    start = threading.Barrier(20)

    def create() -> None:
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        start.wait(10)
        try:
            answers.append(Caller(client).post(f"{API}/vms", NEW))
        finally:
            connection.close()

    threads = [threading.Thread(target=create) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    connections["default"].close()

    codes = sorted(answer.status_code for answer in answers)
    assert codes == [202] * 5 + [403] * 15
    assert usage_of(Project.objects.get(pk=project.pk)).vms == 5
    vmids = [answer.json()["vmid"] for answer in answers if answer.status_code == 202]
    assert len(set(vmids)) == 5
