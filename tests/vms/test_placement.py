"""Where VMs go: many requests at once see one another, and a dead node is left for another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import Quota
from clusters.models import Node
from operations.refusals import Conflict, NotAllowed, Refusal
from templates_app.models import Template
from tests.conftest import run_until
from tests.vms.cast import a_new_vm, finish
from vms import actions
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db(transaction=True)

MIB = 1024**2
AT_ONCE = 50


def create_at_once(operator, **asked) -> list[Refusal | None]:
    """What became of each of AT_ONCE creations that were asked for at the same moment."""

    def create(number: int) -> Refusal | None:
        try:
            actions.create_vm(asked=a_new_vm(f"web-{number}", **asked), by=operator)
        except Refusal as refusal:
            return refusal
        finally:
            connection.close()
        return None

    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(create, range(AT_ONCE)))


def test_parallel_creations_share_the_nodes_memory_and_promise_none_twice(cluster, operator):
    memory_mib = 8192
    fit = sum(
        (node.memory_bytes - node.memory_used_bytes) // MIB // memory_mib
        for node in Node.objects.filter(cluster=cluster)
    )
    assert 0 < fit < AT_ONCE, "else this shows nothing"
    ends = create_at_once(operator, memory_mib=memory_mib)
    made = VirtualMachine.objects.filter(name__startswith="web-", is_ours=True)
    assert ends.count(None) == made.count()
    for node in Node.objects.filter(cluster=cluster):
        promised = sum(vm.memory_mib for vm in made if vm.node == node.name)
        assert promised * MIB <= node.memory_bytes - node.memory_used_bytes
    refused = [end for end in ends if end is not None]
    assert refused
    assert all(isinstance(end, Conflict) and end.code == "no_node" for end in refused)


def test_parallel_creations_exceed_no_quota(cluster, operator, project):
    Quota.objects.create(project=project, vms=5)
    ends = create_at_once(operator, memory_mib=256)
    assert ends.count(None) == 5
    refused = [end for end in ends if end is not None]
    assert all(isinstance(end, NotAllowed) for end in refused)
    assert VirtualMachine.objects.filter(project=project, deleted_at=None).count() == 5


def test_a_node_that_dies_before_the_clone_is_left_for_another(cluster, operator, sim):
    vm, operation = actions.create_vm(asked=a_new_vm(), by=operator)
    chosen = vm.node
    Node.objects.filter(cluster=cluster, name=chosen).update(status="offline")
    ended = finish(operation)
    vm.refresh_from_db()
    assert vm.node != chosen
    assert sim.guest(vm.vmid).node == vm.node
    assert ended.params["placement"]["node"] == vm.node
    assert any(chosen in warning for warning in ended.warnings)


def test_a_node_that_was_asked_for_is_waited_for(cluster, operator, sim):
    vm, operation = actions.create_vm(asked=a_new_vm(node="pve2"), by=operator)
    Node.objects.filter(cluster=cluster, name="pve2").update(status="offline")
    waiting = run_until(lambda: read(operation), lambda o: "pve2" in o.waiting_for)
    assert not waiting.is_ended
    Node.objects.filter(cluster=cluster, name="pve2").update(status="online")
    finish(operation)
    assert sim.guest(vm.vmid).node == "pve2"


def read(operation):
    operation.refresh_from_db()
    return operation


def test_a_template_whose_storage_is_gone_is_cloned_for_no_other_node(cluster, sim, api):
    template = Template.objects.get(name="ubuntu-22.04")
    own = cluster.storages.filter(node=template.node, is_shared=False, content__contains=["images"])
    name = own.first().name
    Template.objects.filter(pk=template.pk).update(storages=[name], is_on_shared_storage=False)
    own.update(missing_since=timezone.now())
    other = cluster.nodes.exclude(name=template.node).order_by("name").first().name
    asked = {"name": "web", "template": template.name, "size": "small", "node": other}
    answer = api.post("/api/v1/vms", asked)
    assert (answer.status_code, answer.json()["code"]) == (409, "node_unsuitable")
    assert f"it has no storage {name}" in answer.json()["detail"]
