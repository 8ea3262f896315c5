"""`?refresh=true` on what inventory reads: Proxmox is asked before the cache."""

from __future__ import annotations

import datetime
import uuid
from types import SimpleNamespace

import pytest
from django.utils import timezone

from clusters.models import ONLINE, UNREACHABLE, Cluster
from inventory import cycle
from pve_simulator import accidents
from tests.api.shapes import fields_of, problem_of

pytestmark = pytest.mark.django_db(transaction=True)
API = "/api/v1"
NOWHERE = "https://127.0.0.1:1"
LOOKED_AT = (
    *("vms", "templates", "templates/ubuntu-22.04", "nodes", "nodes/pve", "nodes/pve/storage"),
    *("nodes/pve/networks", "storage", "clusters", "cluster/status", "cluster/resources"),
)


@pytest.fixture
def before(cluster) -> datetime.datetime:
    """The last look was a while ago."""
    ago = timezone.now() - datetime.timedelta(minutes=1)
    Cluster.objects.filter(pk=cluster.pk).update(seen_at=ago)
    return timezone.now()


@pytest.mark.parametrize("path", LOOKED_AT)
def test_all_that_is_read_can_be_asked_anew(path, api, cluster, before):
    assert api.get(f"{API}/{path}").status_code == 200
    cluster.refresh_from_db()
    assert cluster.seen_at < before
    assert api.get(f"{API}/{path}?refresh=true").status_code == 200
    cluster.refresh_from_db()
    assert cluster.seen_at > before
    assert cluster.look_lease_until is None
    assert fields_of(problem_of(api.get(f"{API}/{path}?refresh=now"), 400)) == ["refresh"]


@pytest.mark.parametrize("path", ["isos", "images"])
def test_what_is_not_kept_is_asked_in_any_case(path, api, cluster):
    assert api.get(f"{API}/{path}?refresh=true").json() == api.get(f"{API}/{path}").json()
    assert fields_of(problem_of(api.get(f"{API}/{path}?refresh=now"), 400)) == ["refresh"]


def test_what_was_made_by_others_is_listed_at_once(api, cluster, sim):
    sim.cause(accidents.set_option, vmid=103, key="name", value="renamed")
    sim.change(lambda s: s.cache.refresh())
    asked = "vms?name=renamed"
    assert api.get(f"{API}/{asked}").json()["count"] == 0
    assert api.get(f"{API}/{asked}&refresh=true").json()["count"] == 1


def test_the_next_page_is_of_the_same_look(api, cluster):
    page = api.get(f"{API}/vms?limit=2&refresh=true").json()
    assert "limit=2" in page["next"]
    assert "refresh" not in page["next"]


def test_bridges_are_read_from_their_node(api, cluster):
    cluster.networks.filter(node="pve").delete()
    assert api.get(f"{API}/nodes/pve/networks").json()["count"] == 0
    assert api.get(f"{API}/nodes/pve/networks?refresh=true").json()["count"] > 0


@pytest.mark.parametrize("path", LOOKED_AT)
def test_who_cannot_be_asked_is_a_503(path, api, cluster):
    Cluster.objects.filter(pk=cluster.pk).update(endpoints=[NOWHERE])
    body = problem_of(api.get(f"{API}/{path}?refresh=true"), 503, "proxmox_unreachable")
    assert "Cluster demo" in body["detail"]
    cluster.refresh_from_db()
    assert (cluster.state, cluster.look_lease_until) == (UNREACHABLE, None)
    # What was known is still shown to who does not insist.
    assert api.get(f"{API}/{path}").status_code == 200


def test_another_cluster_that_is_silent_is_not_asked(api, cluster, before):
    silent = Cluster.objects.get(pk=cluster.pk)
    silent.pk, silent.uuid, silent.name = None, uuid.uuid4(), "silent"
    silent.endpoints, silent.fingerprint = [NOWHERE], ""
    silent.save()
    problem_of(api.get(f"{API}/vms?refresh=true"), 503, "proxmox_unreachable")
    assert api.get(f"{API}/vms?refresh=true&cluster=demo").json()["count"] == 8


def test_who_finds_another_looking_takes_the_next_ones_look(api, cluster, monkeypatch, sim):
    """It began after the request, so it is as good as one of its own."""
    until = timezone.now() + datetime.timedelta(minutes=1)
    Cluster.objects.filter(pk=cluster.pk).update(look_lease_until=until)
    slept = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            Cluster.objects.filter(pk=cluster.pk).update(seen_at=timezone.now(), state=ONLINE)

    monkeypatch.setattr(cycle, "time", SimpleNamespace(sleep=sleep, monotonic=lambda: 0.0))
    sim.forget_calls()
    assert api.get(f"{API}/vms?refresh=true").status_code == 200
    assert slept == [cycle.GLANCE_S] * 3
    assert sim.calls == []


def test_who_finds_another_looking_for_long_is_told(api, cluster, monkeypatch):
    until = timezone.now() + datetime.timedelta(minutes=1)
    Cluster.objects.filter(pk=cluster.pk).update(look_lease_until=until)
    monkeypatch.setattr(cycle, "PATIENCE_S", 0.3)
    problem_of(api.get(f"{API}/vms?refresh=true"), 503, "cluster_unavailable")
    cluster.refresh_from_db()
    assert cluster.look_lease_until == until


@pytest.mark.parametrize("path", ["isos", "images", "isos?cluster=demo"])
@pytest.mark.parametrize("state", [ONLINE, UNREACHABLE])
def test_who_cannot_be_asked_for_images_has_not_none(path, state, api, cluster):
    silent = {"state": state, "endpoints": [NOWHERE], "error": "no route to host"}
    ago = timezone.now() - datetime.timedelta(minutes=2)
    Cluster.objects.filter(pk=cluster.pk).update(seen_at=ago, **silent)
    problem_of(api.get(f"{API}/{path}"), 503, "cluster_unavailable")
