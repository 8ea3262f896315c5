"""A row of which no client can be made: it is not saved, and where it is there it is said."""

from __future__ import annotations

from typing import Any

import pytest
from django.forms import model_to_dict

from clusters.admin import ClusterForm
from clusters.models import REFUSED, Cluster
from clusters.probe import probe
from tests.api.shapes import problem_of
from tests.inventory.looking import look
from tests.operations.hostile import turn_now
from tests.vms.cast import a_vm
from vms import actions

pytestmark = pytest.mark.django_db(transaction=True)

BROKEN = {
    "ca_pem": "-----BEGIN garbage",
    "fingerprint": "AB:CD",
    "token_id": "izvor@pve!a b",
    "secret": "with a space",
    "endpoints": ["https://[::1"],
}


def break_it(cluster: Cluster, field: str) -> None:
    setattr(cluster, field, BROKEN[field])
    cluster.save()


@pytest.mark.parametrize("field", BROKEN)
def test_it_is_refused_and_every_answer_says_why(field, api, cluster, sim, operator):
    vm = a_vm(sim, operator, running=False)
    break_it(cluster, field)
    assert look(cluster).state == REFUSED
    assert "Correct it" in cluster.error
    assert "with a space" not in cluster.error
    problem_of(api.get("/api/v1/vms?refresh=true"), 503, "proxmox_unreachable")
    seen = [api.get(f"/api/v1/vms/{vm.vmid}{asked}") for asked in ("?refresh=true", "/metrics")]
    start = api.post(f"/api/v1/vms/{vm.vmid}/actions", {"action": "start"}, format="json")
    for answer in (*seen, start, api.delete(f"/api/v1/vms/{vm.vmid}")):
        assert "Correct it" in problem_of(answer, 503, "cluster_unavailable")["detail"]
    assert [(found.is_good, found.text) for found in probe(cluster)] == [(False, cluster.error)]


def test_a_task_waits_until_it_is_corrected(cluster, sim, operator, work):
    vm = a_vm(sim, operator, running=False)
    operation = actions.start_vm(vm=vm, by=operator)
    assert operation is not None
    good = cluster.ca_pem
    break_it(cluster, "ca_pem")
    found = turn_now(operation)
    assert (found.is_ended, "the CA is no certificate" in found.waiting_for) == (False, True)
    cluster.ca_pem = good
    cluster.save()
    turn_now(operation)
    assert work(operation).state == "succeeded"


def form_of(cluster: Cluster, **changed: Any) -> ClusterForm:
    asked = {**model_to_dict(cluster, ClusterForm.Meta.fields), "endpoints": cluster.endpoints[0]}
    return ClusterForm({**asked, **changed}, instance=cluster)


@pytest.mark.parametrize("field", BROKEN)
def test_the_form_names_what_is_broken(field, cluster):
    name = "new_secret" if field == "secret" else field
    broken = BROKEN[field]
    form = form_of(cluster, **{name: broken if isinstance(broken, str) else broken[0]})
    assert list(form.errors) == [name]


def test_the_form_takes_what_works(cluster, sim):
    said = f"The CA of our Zürich cluster\n{cluster.ca_pem}"
    assert form_of(cluster, ca_pem=said, new_secret=sim.token_secret).errors == {}
    assert form_of(cluster, ca_pem="garbage", is_insecure=True).errors == {}
    assert form_of(cluster, token_id="", user="root@pam", new_secret="with a space").errors == {}
