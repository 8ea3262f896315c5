"""Clusters that are silent, blind, replaced or several: no row is lost, none is mistaken."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.forms import model_to_dict

from clusters.admin import ClusterForm
from clusters.connect import forget_clients
from clusters.environment import register_from_environment
from clusters.models import ONLINE, REFUSED, SIMULATOR, UNREACHABLE, Cluster
from events.models import Event
from inventory import cycle
from pve_simulator.access import AclEntry
from pve_simulator.testing import SimulatorThread
from tests.api.shapes import problem_of
from vms.job import EMPTY_FOR_S
from vms.models import VirtualMachine

pytestmark = pytest.mark.django_db

NOWHERE = "https://127.0.0.1:1"


def look(cluster: Cluster) -> Cluster:
    cycle.look_at(cluster)
    cluster.refresh_from_db()
    return cluster


@pytest.fixture
def other_sim() -> Iterator[SimulatorThread]:
    """Another cluster: other names, another CA, and one VM under a number that the first has."""
    with SimulatorThread(
        speed=50, seed=2, nodes=("alpha", "beta"), vms=1, cluster_name="other"
    ) as simulator:
        yield simulator
        forget_clients()


# --- silence ---


def test_a_silent_clusters_rows_stay_and_are_stale(cluster, sim, api, callable_health):
    Cluster.objects.filter(pk=cluster.pk).update(endpoints=[NOWHERE])
    cluster.refresh_from_db()
    look(cluster)
    assert cluster.state == UNREACHABLE
    assert cluster.error
    listed = api.get("/api/v1/vms").json()
    assert listed["count"] == 8
    assert {vm["stale"] for vm in listed["vms"]} == {True}
    assert {t["stale"] for t in api.get("/api/v1/templates").json()["templates"]} == {True}
    assert callable_health()[0] == 503
    assert Event.objects.filter(kind="cluster.unreachable").count() == 1
    look(cluster)
    assert Event.objects.filter(kind="cluster.unreachable").count() == 1

    Cluster.objects.filter(pk=cluster.pk).update(endpoints=[sim.url])
    cluster.refresh_from_db()
    look(cluster)
    assert (cluster.state, cluster.error) == (ONLINE, "")
    assert {vm["stale"] for vm in api.get("/api/v1/vms").json()["vms"]} == {False}
    assert callable_health()[0] == 200


@pytest.fixture
def callable_health(client: Any) -> Any:
    def ask() -> tuple[int, Any]:
        answer = client.get("/health")
        return answer.status_code, answer.json()

    return ask


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500, "text": "internal trouble"},
        {"kind": "status", "status": 595, "text": "Connection refused"},
        {"kind": "cut"},
    ],
    ids=lambda fault: f"{fault['kind']} {fault.get('status', '')}",
)
def test_a_list_that_fails_changes_no_row(fault, cluster, sim):
    before = list(VirtualMachine.objects.order_by("pk").values())
    sim.add_fault(method="GET", path="/cluster/resources", count=100, **fault)
    look(cluster)
    assert cluster.state == UNREACHABLE
    assert list(VirtualMachine.objects.order_by("pk").values()) == before
    sim.clear_faults()
    assert look(cluster).state == ONLINE


def test_another_endpoint_is_used_where_one_is_dead(cluster, sim):
    Cluster.objects.filter(pk=cluster.pk).update(endpoints=[NOWHERE, sim.url])
    cluster.refresh_from_db()
    assert look(cluster).state == ONLINE


# --- blindness ---


def blinded(sim: SimulatorThread, *acl: tuple[str, str]) -> None:
    """Give the API a token that may only what the entries of (path, role) say."""

    def make(s: Any) -> None:
        s.access.add_token("blind@pve!api", "blind-secret", privsep=False)
        s.access.acl[:] = [entry for entry in s.access.acl if entry.ugid != "blind@pve"]
        s.access.roles |= {role: frozenset(role.split("+")) for _, role in acl}
        s.access.acl += [AclEntry(path, "user", "blind@pve", role) for path, role in acl]

    sim.change(make)


def use_blind_token(cluster: Cluster) -> None:
    cluster.token_id, cluster.secret = "blind@pve!api", "blind-secret"
    cluster.save()


@pytest.mark.parametrize(
    ("acl", "privilege", "path"),
    [
        ([], "Sys.Audit", "/"),
        ([("/", "Sys.Audit")], "VM.Audit", "/vms"),
        ([("/", "Sys.Audit+VM.Audit")], "Datastore.Audit", "/storage"),
    ],
)
def test_a_token_without_rights_empties_nothing_and_names_the_privilege(
    acl, privilege, path, cluster, sim, api
):
    blinded(sim, *acl)
    use_blind_token(cluster)
    look(cluster)
    assert cluster.state == REFUSED
    assert privilege in cluster.error
    assert path in cluster.error
    assert "blind@pve!api" in cluster.error
    assert VirtualMachine.objects.filter(missing_since=None, deleted_at=None).count() == 8
    assert cluster.templates.filter(missing_since=None).count() == 3
    assert cluster.nodes.filter(missing_since=None).count() == 3
    assert cluster.storages.filter(missing_since=None).exists()
    assert api.get("/api/v1/vms/100").json()["stale"] is True


def test_a_list_that_is_empty_for_a_moment_empties_nothing(cluster, sim, api):
    """As a node gives it, with 200, while its pmxcfs restarts."""
    kept = sim.change(lambda s: dict(s.world.guests))
    sim.change(lambda s: (s.world.guests.clear(), s.cache.refresh()))
    for _ in range(2):
        look(cluster)
        assert (cluster.state, cluster.error) == (UNREACHABLE, "the cluster lists no VM at all")
    assert VirtualMachine.objects.filter(missing_since=None).count() == 8
    assert cluster.templates.filter(missing_since=None).count() == 3
    problem_of(api.get("/api/v1/vms?refresh=true"), 503, "proxmox_unreachable")

    sim.change(lambda s: (s.world.guests.update(kept), s.cache.refresh()))
    assert (look(cluster).state, cluster.empty_since) == (ONLINE, None)


def test_a_list_that_stays_empty_is_believed(cluster, sim):
    sim.change(lambda s: (s.world.guests.clear(), s.cache.refresh()))
    look(cluster)
    cluster.empty_since -= datetime.timedelta(seconds=EMPTY_FOR_S)
    assert look(cluster).state == ONLINE
    assert not VirtualMachine.objects.filter(missing_since=None).exists()
    assert not cluster.templates.filter(missing_since=None).exists()
    assert (look(cluster).state, cluster.empty_since) == (ONLINE, None)


def test_a_list_that_is_empty_again_after_a_silence_has_not_stayed_so(cluster, sim):
    sim.change(lambda s: (s.world.guests.clear(), s.cache.refresh()))
    look(cluster)
    cluster.empty_since -= datetime.timedelta(seconds=EMPTY_FOR_S)
    sim.add_fault("status", method="GET", path="/cluster/resources", status=595, count=1)
    look(cluster)
    assert look(cluster).state == UNREACHABLE
    assert cluster.templates.filter(missing_since=None).count() == 3


def test_a_blind_token_is_said_at_first_contact_too(sim, project):
    blinded(sim, ("/", "Sys.Audit"))
    cluster = Cluster(
        name="new", kind=SIMULATOR, endpoints=[sim.url], ca_pem=sim.ca_file.read_text()
    )
    use_blind_token(cluster)
    look(cluster)
    assert cluster.state == REFUSED
    assert "VM.Audit on /vms" in cluster.error


def test_a_wrong_secret_is_refused_with_a_sentence(cluster, sim):
    cluster.secret = "wrong"
    cluster.save()
    look(cluster)
    assert cluster.state == REFUSED
    assert cluster.error
    assert "wrong" not in cluster.error
    assert VirtualMachine.objects.filter(missing_since=None).count() == 8


def test_a_secret_sealed_with_another_key_is_refused_with_a_sentence(cluster):
    Cluster.objects.filter(pk=cluster.pk).update(sealed_secret="not ours")
    cluster.refresh_from_db()
    look(cluster)
    assert cluster.state == REFUSED
    assert "IZVOR_SECRET_KEY" in cluster.error


# --- identity ---


@pytest.mark.services
def test_another_cluster_at_the_address_is_refused_and_not_read(cluster, sim, other_sim):
    before = list(VirtualMachine.objects.order_by("pk").values())
    cluster.endpoints = [other_sim.url]
    cluster.ca_pem = other_sim.ca_file.read_text()
    cluster.save()
    look(cluster)
    assert cluster.state == REFUSED
    assert "'other'" in cluster.error
    assert "'demo'" in cluster.error
    assert list(VirtualMachine.objects.order_by("pk").values()) == before
    assert set(cluster.nodes.values_list("name", flat=True)) == {"pve", "pve2", "pve3"}
    assert other_sim.calls_to("GET", "^/cluster/resources$") == []


@pytest.fixture
def twin(cluster: Cluster) -> Cluster:
    """The same cluster, added once more."""
    row = Cluster.objects.get(pk=cluster.pk)
    row.pk, row.uuid, row.name, row.pve_name, row.ca_fingerprint = (
        None,
        uuid.uuid4(),
        "twin",
        "",
        "",
    )
    row.save()
    return row


def test_a_cluster_that_another_row_has_already_is_refused(cluster, twin, api):
    for _ in range(2):
        look(twin)
        assert (twin.state, twin.vms.count(), twin.pve_name) == (REFUSED, 0, "")
        assert "which demo is already" in twin.error
    assert look(cluster).state == ONLINE
    assert api.get("/api/v1/vms/100").status_code == 200

    Cluster.objects.filter(pk=cluster.pk).update(is_enabled=False)
    assert look(twin).state == ONLINE


def test_a_name_alone_makes_no_two_rows_one_cluster(cluster, twin):
    """Standalone nodes are often called the same; without their CAs nothing tells them apart."""
    for fingerprint in ("", "AA:BB"):
        Cluster.objects.filter(pk=cluster.pk).update(ca_fingerprint=fingerprint)
        Cluster.objects.filter(pk=twin.pk).update(pve_name="")
        twin.refresh_from_db()
        assert look(twin).state == ONLINE


def test_a_row_is_not_switched_on_beside_another_of_its_cluster(cluster, twin):
    Cluster.objects.filter(pk=cluster.pk).update(is_enabled=False)
    look(twin)
    cluster.refresh_from_db()
    asked = {**model_to_dict(cluster, ClusterForm.Meta.fields), "endpoints": cluster.endpoints[0]}
    form = ClusterForm({**asked, "is_enabled": True}, instance=cluster)
    assert form.errors == {"is_enabled": ["twin is the same cluster: switch that one off first."]}
    form = ClusterForm({**asked, "is_enabled": False}, instance=cluster)
    assert form.errors == {}


def env_for(sim: SimulatorThread, **more: Any) -> dict[str, Any]:
    return {
        "url": sim.url,
        "user": "root@pam",
        "password": "",
        "token_id": sim.token_id,
        "token_secret": sim.token_secret,
        "node": "",
        "is_insecure": False,
        "ca_file": str(sim.ca_file),
        "fingerprint": "",
        "kind": SIMULATOR,
        **more,
    }


def test_another_cluster_in_the_environment_is_another_row(sim, other_sim, settings, project):
    settings.PROXMOX = env_for(sim)
    first = register_from_environment()
    assert first is not None
    look(first)
    settings.PROXMOX = env_for(other_sim)
    second = register_from_environment()
    assert second is not None
    look(second)
    first.refresh_from_db()
    assert second.pk != first.pk
    assert (first.is_enabled, second.is_enabled) == (False, True)
    assert first.vms.filter(missing_since=None).count() == 8
    assert second.vms.count() == 1
    assert (first.pve_name, second.pve_name) == ("demo", "other")

    settings.PROXMOX = env_for(sim)
    again = register_from_environment()
    assert again == first
    second.refresh_from_db()
    assert (again.is_enabled, second.is_enabled) == (True, False)


def test_a_disabled_clusters_rows_are_stale(sim, other_sim, settings, project, api):
    settings.PROXMOX = env_for(sim)
    first = register_from_environment()
    assert first is not None
    look(first)
    settings.PROXMOX = env_for(other_sim)
    second = register_from_environment()
    assert second is not None
    look(second)
    stale = {vm["cluster"]: vm["stale"] for vm in api.get("/api/v1/vms").json()["vms"]}
    assert stale == {first.name: True, second.name: False}


def test_the_same_cluster_at_another_address_is_the_same_row(sim, settings, project):
    settings.PROXMOX = env_for(sim)
    first = register_from_environment()
    assert first is not None
    look(first)
    settings.PROXMOX = env_for(sim, url=f"{NOWHERE},{sim.url}")
    assert register_from_environment() == first


def test_a_simulators_rows_never_meet_a_real_cluster(sim, settings, project):
    settings.PROXMOX = env_for(sim)
    simulated = register_from_environment()
    assert simulated is not None
    look(simulated)
    settings.PROXMOX = env_for(sim, kind="proxmox")
    real = register_from_environment()
    assert real != simulated


def test_a_silent_cluster_in_the_environment_is_registered_all_the_same(sim, settings, project):
    settings.PROXMOX = env_for(sim, url=NOWHERE)
    first = register_from_environment()
    assert first is not None
    assert look(first).state == UNREACHABLE
    assert register_from_environment() == first


# --- several ---


def test_several_clusters_stand_side_by_side(cluster, other_sim, api):
    other = Cluster(
        name="other",
        kind=SIMULATOR,
        endpoints=[other_sim.url],
        token_id=other_sim.token_id,
        ca_pem=other_sim.ca_file.read_text(),
    )
    other.secret = other_sim.token_secret
    other.save()
    look(other)
    assert (other.state, other.error) == (ONLINE, "")
    assert api.get("/api/v1/vms").json()["count"] == 9
    assert api.get("/api/v1/vms?cluster=other").json()["vms"][0]["node"] in {"alpha", "beta"}
    assert api.get("/api/v1/vms/100").status_code == 409
    # Both have a template 9000: it is named with its cluster.
    body = {"name": "web", "template": "9000", "linked": True}
    assert api.post("/api/v1/vms", body).json()["code"] == "template_ambiguous"
    made = api.post("/api/v1/vms", {**body, "cluster": "other"}).json()
    assert made["vm"]["cluster"] == "other"

    Cluster.objects.filter(pk=other.pk).update(endpoints=[NOWHERE])
    other.refresh_from_db()
    look(other)
    look(cluster)
    stale = {vm["cluster"]: vm["stale"] for vm in api.get("/api/v1/vms").json()["vms"]}
    assert stale == {"demo": False, "other": True}
